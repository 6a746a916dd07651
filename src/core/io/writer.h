/* core/io/writer.h: what the writers of safetensors and GGUF share: a file of declared slots that is PATH.partial until all
 * of them are filled.
 *
 *   oz_writer_new -> oz_writer_slot for every tensor -> oz_writer_start (header) -> puts from any thread -> oz_writer_commit */
#ifndef OUNCE_IO_WRITER_H
#define OUNCE_IO_WRITER_H
#include "core/io/io_internal.h"

OZ_MUST oz_status oz_writer_new(oz_writer **, const char *path, int n);
/* Slot i: `bytes` at `offset` of the file. */
OZ_MUST oz_status oz_writer_slot(oz_writer *, int i, const char *name, uint64_t offset, size_t bytes);
/* Creates the partial file of `total` bytes with the header at its start.  On failure nothing is left on disk; the writer
 * is the caller's to abandon. */
OZ_MUST oz_status oz_writer_start(oz_writer *, const void *header, size_t header_bytes, uint64_t total);
/* Shape, sizes and name of a declared tensor; *type is set for GGUF (want_ggml), where dtypes have a ggml type. */
OZ_MUST oz_status oz_writer_check(const oz_out_tensor *, const char *path, bool want_ggml, int *type);
OZ_MUST oz_status oz_writer_align(uint32_t align, const char *path);
#endif
