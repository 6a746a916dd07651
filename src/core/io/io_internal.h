/* core/io/io_internal.h: what the files of this room share: parsers that read from memory (so that tests and fuzzers
 * need no file), a growing text, and the sorted index of tensor names. */
#ifndef OUNCE_IO_INTERNAL_H
#define OUNCE_IO_INTERNAL_H
#include "ounce/io.h"

/* The format allows 100 MB.  A JSON value of three bytes takes about 300 in memory, so the limit is what bounds a hostile header; this
 * one has room for 150 thousand tensors in one file. */
#define OZ_SAFETENSORS_HEADER_MAX (16u << 20)
#define OZ_YAML_BYTES_MAX         (1u << 20)
#define OZ_YAML_DEPTH_MAX         64
#define OZ_JSON_DEPTH_MAX         512

/* What a safetensors file or a GGUF file holds; all of it lives in the arena or points into the data. */
typedef struct oz_parsed {
    oz_tensor *tensor; /* by position in the file */
    int ntensor;
    oz_node *metadata;    /* safetensors: __metadata__ or NULL */
    oz_gguf_value *value; /* GGUF */
    int nvalue;
    uint32_t align;      /* GGUF: general.alignment */
    size_t header_bytes; /* bytes before the first tensor's data */
} oz_parsed;

/* `data` must stay as long as the result; `file` is for messages and is not kept. */
OZ_MUST oz_status oz_safetensors_parse(const void *data, size_t bytes, const char *file, oz_arena *, oz_parsed *);
OZ_MUST oz_status oz_gguf_parse(const void *data, size_t bytes, const char *file, oz_arena *, oz_parsed *);
/* Name of an element type in a safetensors header ("BF16"). */
const char *oz_safetensors_dtype(oz_dtype);
size_t oz_gguf_kind_size(oz_gguf_kind); /* bytes of a scalar; 0 for strings, arrays and unknown numbers */
const char *oz_gguf_kind_name(uint32_t);
/* Bytes of a tensor of this ggml type; false when the row is not a whole number of blocks or the size overflows. */
bool oz_ggml_bytes(const oz_ggml_type *, int rank, const int64_t *shape, size_t *bytes);

/* Pointers to tensors sorted by name.  *twice: one of two tensors with the same name, or NULL. */
OZ_MUST oz_status oz_tensor_index(const oz_tensor *, int n, oz_arena *, const oz_tensor ***index, const oz_tensor **twice);
const oz_tensor *oz_tensor_lookup(const oz_tensor *const *index, int n, const char *name);

/* True when `name` is a file of its directory and of no other: not empty, no '/', not "." or "..". */
bool oz_plain_name(const char *name, size_t length);
/* Folder of a path ("." when it has none); caller frees. */
char *oz_path_folder(const char *path);
/* Writes all of it (short writes are continued); `path` and the sizes go into the message. */
OZ_MUST oz_status oz_write_all(int fd, const void *, size_t bytes, uint64_t offset, const char *path);
/* Brings the pages of a mapped range into memory; OZ_ERR_IO where touching them would end the process. */
OZ_MUST oz_status oz_map_fetch(const oz_file_map *, const uint8_t *data, size_t bytes, const char *path);
/* Makes a rename in this folder durable. */
OZ_MUST oz_status oz_sync_folder(const char *folder);

/* Text that grows.  After a failed allocation the additions do nothing and oz_grow_take gives NULL. */
typedef struct oz_grow {
    char *p;
    size_t n, room;
    bool failed;
} oz_grow;
void oz_grow_add(oz_grow *, const void *, size_t);
void oz_grow_text(oz_grow *, const char *);
void oz_grow_fill(oz_grow *, char, size_t n);
void oz_grow_json_string(oz_grow *, const char *, size_t length);
void oz_grow_real(oz_grow *, double); /* finite */
char *oz_grow_take(oz_grow *);        /* NUL added; the caller frees; empties the growing text */

/* Room for n items and as many more as oz_node_put and oz_node_push expect to find. */
oz_pair *oz_node_items(oz_arena *, int n);
/* Kind of a plain YAML scalar by the core schema of YAML 1.2, with its value. */
oz_node_kind oz_yaml_scalar(const char *, size_t length, int64_t *integer, double *real);
#endif
