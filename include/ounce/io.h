/* ounce/io.h: files.  One bounded reader, JSON and YAML values, memory maps, safetensors and GGUF, checkpoints
 * (a Hugging Face directory or a GGUF file behind one face), and writers whose output appears only when complete.
 *
 * All input is untrusted: sizes are checked against the file's size before any allocation; messages name file and key. */
#ifndef OUNCE_IO_H
#define OUNCE_IO_H
#include "ounce/option.h"
#include "ounce/tensor.h"

/* ---- bounded reader: little-endian, never reads past end -------------------------------------------------- */
typedef struct oz_reader { const uint8_t *p, *end, *begin; const char *file; bool failed; } oz_reader;
void oz_reader_init(oz_reader *, const void *, size_t, const char *file);
uint8_t oz_read_u8(oz_reader *);
uint16_t oz_read_u16(oz_reader *);
uint32_t oz_read_u32(oz_reader *);
uint64_t oz_read_u64(oz_reader *);
const uint8_t *oz_read_bytes(oz_reader *, uint64_t n); /* NULL when fewer remain; then failed is set and all later reads give 0 */
size_t oz_reader_left(const oz_reader *);

/* ---- whole files and maps ------------------------------------------------------------------------------------ */
typedef struct oz_file_map { const uint8_t *data; size_t bytes; int fd; } oz_file_map;
OZ_MUST oz_status oz_map_open(oz_file_map *, const char *path); /* read-only mmap; an empty file gives bytes = 0 */
void oz_map_close(oz_file_map *);
void oz_map_advise_drop(const void *, size_t); /* these pages are not needed again soon */
OZ_MUST oz_status oz_read_file(const char *path, size_t max_bytes, char **text, size_t *bytes); /* NUL added; caller frees */
/* Writes NAME.tmp-PID, fsyncs, renames over NAME. */
OZ_MUST oz_status oz_write_file(const char *path, const void *, size_t);
bool oz_path_exists(const char *);
bool oz_path_is_dir(const char *);
OZ_MUST oz_status oz_make_dirs(const char *path);
OZ_MUST oz_status oz_remove_tree(const char *path);
char *oz_path_join(const char *dir, const char *name); /* caller frees */

/* ---- values: one tree for JSON and YAML ------------------------------------------------------------------------ */
typedef enum { OZ_NODE_NULL, OZ_NODE_BOOL, OZ_NODE_INT, OZ_NODE_REAL, OZ_NODE_TEXT, OZ_NODE_LIST, OZ_NODE_MAP } oz_node_kind;
typedef struct oz_pair { const char *key; struct oz_node *value; } oz_pair; /* key NULL in lists */
struct oz_node {
    oz_node_kind kind;
    bool quoted;       /* YAML text that was quoted: never a number */
    int line, column;  /* 1-based where it came from; 0: made by code */
    int64_t integer;   /* INT; BOOL: 0 or 1 */
    double real;       /* also set for INT */
    const char *text;  /* TEXT; for scalars of YAML also the source spelling */
    size_t length;     /* of text: JSON strings may hold NUL */
    int n;             /* LIST, MAP (source order kept; duplicate keys are an error) */
    oz_pair *item;
};

/* Bounds: depth 64 (YAML) / 512 (JSON); YAML anchors and aliases are refused; the tree is in the arena. JSON is read with jansson, YAML with libyaml. */
OZ_MUST oz_status oz_json_parse(oz_node **, const char *text, size_t bytes, const char *file, oz_arena *);
OZ_MUST oz_status oz_yaml_parse(oz_node **, const char *text, size_t bytes, const char *file, oz_arena *);
const oz_node *oz_node_get(const oz_node *map, const char *key); /* NULL: absent or not a map */
const oz_node *oz_node_at(const oz_node *list, int i);
const char *oz_node_text(const oz_node *, const char *otherwise);
int64_t oz_node_int(const oz_node *, int64_t otherwise);
double oz_node_real(const oz_node *, double otherwise);
bool oz_node_bool(const oz_node *, bool otherwise);
oz_node *oz_node_new(oz_arena *, oz_node_kind);
oz_node *oz_node_map(oz_arena *);
oz_node *oz_node_list(oz_arena *);
oz_status oz_node_put(oz_node *map, const char *key, oz_node *value, oz_arena *); /* replaces */
oz_status oz_node_push(oz_node *list, oz_node *value, oz_arena *);
oz_node *oz_node_of_text(oz_arena *, const char *);
oz_node *oz_node_of_int(oz_arena *, int64_t);
oz_node *oz_node_of_real(oz_arena *, double); /* not finite becomes null */
oz_node *oz_node_of_bool(oz_arena *, bool);
oz_node *oz_node_copy(oz_arena *, const oz_node *);
bool oz_node_equal(const oz_node *, const oz_node *);
/* JSON text, keys in the order put; reals with 17 significant digits (shortest that round-trips); caller frees. indent 0: one line. */
char *oz_json_print(const oz_node *, int indent);
char *oz_yaml_print(const oz_node *); /* block style for maps, flow for leaves; parses back to an equal tree */

/* ---- tensors of a checkpoint -------------------------------------------------------------------------------------- */
#define OZ_GGML_NONE (-1)
typedef struct oz_tensor {
    const char *name;
    oz_dtype dtype;     /* element type; OZ_U8 when ggml_type holds a block type */
    int ggml_type;      /* ggml's number (0 F32, 1 F16, 2 Q4_0 ...) or OZ_GGML_NONE in safetensors */
    int rank;
    int64_t shape[4];   /* outermost first: [out, in] for a linear, also for GGUF (whose file order is reversed) */
    const uint8_t *data;/* mapped */
    size_t bytes;
    int shard;          /* which file */
} oz_tensor;
int64_t oz_tensor_count(const oz_tensor *); /* elements */

/* Elements and bytes of one block of a ggml type; NULL for an unknown number. Table of every type in circulation. */
typedef struct oz_ggml_type { const char *name; int block; int bytes; int row; } oz_ggml_type; /* "q4_0", 32, 18; row: extra bytes at the start of each row, mostly 0 */
const oz_ggml_type *oz_ggml_type_info(int ggml_type);
int oz_ggml_type_find(const char *name); /* OZ_GGML_NONE when unknown */

/* GGUF metadata value.  Arrays are read in place. */
typedef enum { OZ_GGUF_U8, OZ_GGUF_I8, OZ_GGUF_U16, OZ_GGUF_I16, OZ_GGUF_U32, OZ_GGUF_I32, OZ_GGUF_F32, OZ_GGUF_BOOL, OZ_GGUF_STRING, OZ_GGUF_ARRAY,
               OZ_GGUF_U64, OZ_GGUF_I64, OZ_GGUF_F64 } oz_gguf_kind;
typedef struct oz_gguf_value {
    const char *key;
    oz_gguf_kind kind, item; /* item: of arrays */
    uint64_t count;          /* array items; string bytes */
    const uint8_t *raw;      /* scalar / string / first item, in the map */
    size_t raw_bytes;
    const uint64_t *offset;  /* array of strings: where each item's length field starts, from raw; made when opened */
} oz_gguf_value;
bool oz_gguf_int(const oz_gguf_value *, int64_t *);           /* any integer or bool kind */
bool oz_gguf_real(const oz_gguf_value *, double *);           /* any number */
const char *oz_gguf_string(const oz_gguf_value *, size_t *bytes); /* not NUL terminated */
const char *oz_gguf_string_at(const oz_gguf_value *, uint64_t i, size_t *bytes);
bool oz_gguf_real_at(const oz_gguf_value *, uint64_t i, double *);
bool oz_gguf_int_at(const oz_gguf_value *, uint64_t i, int64_t *);

typedef enum { OZ_CKPT_HF, OZ_CKPT_GGUF } oz_ckpt_kind;
typedef struct oz_ckpt oz_ckpt;
/* Kind by content.  HF directory: config.json, model.safetensors or model.safetensors.index.json with shards (also a single
 * .safetensors file).  GGUF v2, v3 (split files arrive with another issue). */
OZ_MUST oz_status oz_ckpt_open(oz_ckpt **, const char *path);
void oz_ckpt_close(oz_ckpt *);
oz_ckpt_kind oz_ckpt_kind_of(const oz_ckpt *);
const char *oz_ckpt_path(const oz_ckpt *);
int oz_ckpt_count(const oz_ckpt *);
const oz_tensor *oz_ckpt_tensor(const oz_ckpt *, int i);           /* in file order */
const oz_tensor *oz_ckpt_find(const oz_ckpt *, const char *name);  /* NULL when absent, no message */
OZ_MUST oz_status oz_ckpt_need(const oz_ckpt *, const char *name, const oz_tensor **); /* absent: OZ_ERR_KEY naming file and nearest tensor */
const oz_node *oz_ckpt_config(const oz_ckpt *);                    /* config.json; NULL for GGUF */
const oz_gguf_value *oz_ckpt_meta(const oz_ckpt *, const char *key); /* GGUF; NULL when absent */
int oz_ckpt_meta_count(const oz_ckpt *);
const oz_gguf_value *oz_ckpt_meta_at(const oz_ckpt *, int i);
uint64_t oz_ckpt_file_bytes(const oz_ckpt *);                      /* all tensor files */
/* Text of a side file ("tokenizer.json"); OZ_ERR_IO naming it when absent.  Caller frees. */
OZ_MUST oz_status oz_ckpt_side_file(const oz_ckpt *, const char *name, char **text, size_t *bytes);
/* Identity for fingerprints: sha256 over names, shapes, types, sizes, config, and a sample of each tensor's bytes (whole when <= 64 KiB). */
OZ_MUST oz_status oz_ckpt_hash(const oz_ckpt *, uint8_t out[32]);
/* Reads the tensor's pages now: a failing disk or a file cut short meanwhile is OZ_ERR_IO here; a plain access would end the process (SIGBUS). */
OZ_MUST oz_status oz_ckpt_fetch(const oz_ckpt *, const oz_tensor *);
void oz_ckpt_drop_pages(const oz_ckpt *, const oz_tensor *);       /* residency: this tensor is not needed again soon */

/* ---- writers ------------------------------------------------------------------------------------------------------------ */
typedef struct oz_out_tensor { const char *name; oz_dtype dtype; int ggml_type; int rank; int64_t shape[4]; size_t bytes; } oz_out_tensor;
/* A metadata pair for GGUF (built by code or copied from a checkpoint) or for the safetensors __metadata__ (STRING only). */
typedef struct oz_out_meta { const char *key; oz_gguf_kind kind, item; uint64_t count; const void *data; /* STRING: bytes; arrays of strings: const char*const* NUL-terminated */
                             const oz_gguf_value *copy; /* not NULL: this value, unchanged */ } oz_out_meta;
typedef struct oz_writer oz_writer;
/* One file.  The layout is fixed by the declaration, so tensors may be put in any order and from any thread (pwrite).  The file is
 * PATH.partial until commit (fsync, rename).  align: start of each tensor's data (safetensors: reached with a padded header and
 * "__pad.N" tensors; GGUF: general.alignment). */
OZ_MUST oz_status oz_safetensors_begin(oz_writer **, const char *path, const oz_out_tensor *, int n, const oz_out_meta *, int nmeta, uint32_t align);
OZ_MUST oz_status oz_gguf_begin(oz_writer **, const char *path, const oz_out_tensor *, int n, const oz_out_meta *, int nmeta, uint32_t align);
OZ_MUST oz_status oz_writer_put(oz_writer *, const char *tensor, const void *data, size_t bytes); /* whole tensor */
OZ_MUST oz_status oz_writer_put_part(oz_writer *, const char *tensor, size_t offset, const void *data, size_t bytes);
/* Fails naming the first tensor that was declared and not put in full.  Frees the writer either way. */
OZ_MUST oz_status oz_writer_commit(oz_writer *);
void oz_writer_abandon(oz_writer *); /* removes the partial file, frees */
/* Sharded HF output: begin several writers through one plan. Shard limits as the input's; writes model.safetensors or
 * model-0000i-of-0000n.safetensors + index. Everything goes into DIR (which the caller makes under a partial name). */
typedef struct oz_hf_writer oz_hf_writer;
OZ_MUST oz_status oz_hf_begin(oz_hf_writer **, const char *dir, const oz_out_tensor *, int n, const oz_out_meta *, int nmeta, uint64_t shard_bytes, uint32_t align);
OZ_MUST oz_status oz_hf_put(oz_hf_writer *, const char *tensor, const void *data, size_t bytes);
OZ_MUST oz_status oz_hf_put_part(oz_hf_writer *, const char *tensor, size_t offset, const void *data, size_t bytes);
OZ_MUST oz_status oz_hf_commit(oz_hf_writer *);
void oz_hf_abandon(oz_hf_writer *);
#endif
