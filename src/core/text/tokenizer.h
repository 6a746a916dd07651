/* core/text/tokenizer.h: the inside of a tokenizer, shared by the files of core/text.
 *
 * Everything works on raw bytes.  A byte-level BPE file spells every byte as one printable character (the byte alphabet of
 * GPT-2: a space is U+0120); reading undoes that once, so that words of the text need no translation. */
#ifndef OUNCE_CORE_TEXT_TOKENIZER_H
#define OUNCE_CORE_TEXT_TOKENIZER_H
#include <string.h>
#include "core/text/utf8.h"
#include "ounce/text.h"

typedef struct oz_str {
    const char *s;
    size_t n;
} oz_str;

/* ---- growing text (also used by the exporters and the templates) ---- */
typedef struct oz_sb {
    char *s;
    size_t n, cap;
    bool failed;
} oz_sb;
void oz_sb_put(oz_sb *, const char *, size_t);
void oz_sb_text(oz_sb *, const char *);
void oz_sb_format(oz_sb *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void oz_sb_json(oz_sb *, const char *, size_t);               /* a quoted JSON string; malformed bytes become U+FFFD */
OZ_MUST oz_status oz_sb_end(oz_sb *, char **, size_t *bytes); /* NUL added; frees on failure */

/* ---- pre-tokenizers: a text segment becomes words ---- */
typedef enum { OZ_PRE_SPLIT, OZ_PRE_DIGITS, OZ_PRE_BYTES } oz_pre_kind;
typedef enum { OZ_SPLIT_ISOLATED, OZ_SPLIT_REMOVED, OZ_SPLIT_PREVIOUS, OZ_SPLIT_NEXT, OZ_SPLIT_CONTIGUOUS } oz_split_behavior;
enum { OZ_PRE_MAX = 8 };
typedef struct oz_pre_step {
    oz_pre_kind kind;
    const char *pattern; /* SPLIT: a regular expression, or a plain text when literal */
    size_t pattern_bytes;
    bool literal, invert;
    oz_split_behavior behavior;
    bool individual;              /* DIGITS: one by one, else runs */
    bool use_regex, prefix_space; /* BYTES */
    void *code;                   /* compiled pattern */
    bool jit;
} oz_pre_step;
typedef struct oz_pretokenizer {
    oz_pre_step step[OZ_PRE_MAX];
    int n;
} oz_pretokenizer;
typedef oz_status (*oz_word_fn)(void *ctx, const char *word, size_t bytes);
typedef struct oz_pre_run {
    const oz_pretokenizer *pre;
    void *match, *match_context, *jit_stack;
    oz_word_fn word;
    void *ctx;
    char *prefixed;
    size_t prefixed_cap;
} oz_pre_run;
OZ_MUST oz_status oz_pre_compile(oz_pretokenizer *, const char *file);
void oz_pre_free(oz_pretokenizer *);
bool oz_pre_equal(const oz_pretokenizer *, const oz_pretokenizer *);
/* One run per call of oz_tokenize: the compiled patterns are shared, the match memory is not. */
OZ_MUST oz_status oz_pre_begin(oz_pre_run *, const oz_pretokenizer *, oz_word_fn, void *ctx);
OZ_MUST oz_status oz_pre_words(oz_pre_run *, const char *text, size_t bytes); /* well-formed UTF-8 */
void oz_pre_end(oz_pre_run *);
extern const char oz_pattern_gpt2[];

/* ---- pre-tokenizers known by name ---- */
typedef enum { OZ_NORM_NONE, OZ_NORM_NFC, OZ_NORM_NFD, OZ_NORM_NFKC, OZ_NORM_NFKD } oz_norm;
typedef struct oz_preset {
    const char *name; /* what GGUF calls it (tokenizer.ggml.pre) */
    const char *also; /* other names for the same, each between spaces */
    oz_norm norm;
    bool digits;            /* digits one by one first */
    const char *pattern[4]; /* Split patterns in order; the GPT-2 pattern of ByteLevel when there are none */
    bool ignore_merges, adds_bos;
} oz_preset;
const oz_preset *oz_preset_named(const char *name, size_t bytes);
void oz_preset_steps(const oz_preset *, oz_pretokenizer *);
const oz_preset *oz_preset_like(const oz_pretokenizer *, oz_norm); /* NULL: none has these steps */
char *oz_preset_names(void);                                       /* "gpt-2, smollm, ..."; caller frees */
/* Well-formed UTF-8 in; *out points to the text itself when it is in this form already, else into *buffer (grown, caller frees). */
OZ_MUST oz_status oz_normalize(oz_norm, const char *text, size_t bytes, oz_sb *buffer, oz_str *out);

/* ---- merges ---- */
typedef struct oz_merge_slot {
    uint64_t pair; /* left id in the high half */
    uint32_t rank;
    int32_t id;
} oz_merge_slot;
typedef struct oz_bpe {
    int32_t byte_id[256]; /* -1: the vocabulary lacks this byte */
    oz_merge_slot *slot;
    uint32_t mask;
    int32_t unk; /* what a missing byte becomes; -1: nothing */
    bool fuse_unk;
} oz_bpe;
typedef struct oz_ids {
    int32_t *id;
    size_t n, cap;
} oz_ids;
typedef struct oz_bpe_scratch {
    void *p;
    size_t cap;
} oz_bpe_scratch;
OZ_MUST oz_status oz_ids_reserve(oz_ids *, size_t more);
OZ_MUST oz_status oz_bpe_init(oz_bpe *, size_t merges);
void oz_bpe_free(oz_bpe *);
void oz_bpe_add(oz_bpe *, int32_t left, int32_t right, uint32_t rank, int32_t id); /* a pair given twice: the later rank holds */
OZ_MUST oz_status oz_bpe_word(const oz_bpe *, const uint8_t *word, size_t bytes, oz_ids *, oz_bpe_scratch *);

/* ---- the tokenizer ---- */
enum { OZ_TOKEN_MODEL = 1, OZ_TOKEN_ADDED = 2, OZ_TOKEN_SPECIAL = 4, OZ_TOKEN_END = 8, OZ_TOKEN_UNUSED = 16 };
typedef struct oz_added {
    int32_t id;
    oz_str match; /* content, normalized when the token is */
    bool special, lstrip, rstrip, single_word, normalized;
} oz_added;
typedef struct oz_trie {
    const oz_added **token; /* sorted by bytes */
    int n;
    int first[257]; /* tokens that begin with byte b: first[b] .. first[b + 1] */
} oz_trie;
typedef struct oz_str_map {
    int32_t *slot;
    uint32_t mask;
} oz_str_map;
struct oz_tokenizer {
    oz_arena *arena;
    int32_t n;
    oz_str *spell; /* [n] as the file spells it; s NULL: no such id */
    oz_str *piece; /* [n] raw bytes */
    uint8_t *flag; /* [n] */
    char *pool;    /* where spell points */
    size_t pool_used, pool_bytes;
    oz_str_map by_spell, by_piece; /* of the model's vocabulary */
    oz_added *added;
    int nadded, added_cap;
    oz_trie trie[2]; /* 0: matched in the text as it is, 1: after normalizing */
    oz_bpe bpe;
    int32_t (*merge)[2]; /* [nmerge] ids, by rank */
    int32_t nmerge;
    oz_pretokenizer pre;
    const oz_preset *preset; /* NULL: steps that have no name */
    oz_norm norm;
    bool ignore_merges, adds_bos;
    int32_t bos, eos, pad, unk_id; /* unk_id: what the file calls unknown; the model may still drop bytes (bpe.unk) */
    char kind[96];
};
static inline uint64_t oz_word_hash(const char *s, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u, w;
    while (n >= 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
        s += 8, n -= 8;
    }
    w = 0;
    for (size_t i = 0; i < n; i++) w |= (uint64_t)(uint8_t)s[i] << (8 * i);
    h = (h ^ w) * 0xff51afd7ed558ccdu;
    return h ^ h >> 32;
}
int32_t oz_str_map_find(const oz_str_map *, const oz_str *strings, const char *s, size_t n);
/* Building: new (n ids, room for so many bytes of spelling), put each token, index, merges, added tokens, finish. */
OZ_MUST oz_status oz_tokenizer_new(oz_tokenizer **, int32_t n, size_t bytes, size_t merges, size_t added);
OZ_MUST oz_status oz_tokenizer_put(oz_tokenizer *, int32_t id, const char *s, size_t n, unsigned flags, const char *file);
OZ_MUST oz_status oz_tokenizer_index(oz_tokenizer *, const char *file);
OZ_MUST oz_status oz_tokenizer_put_merge(oz_tokenizer *, const char *a, size_t na, const char *b, size_t nb, const char *file);
OZ_MUST oz_status oz_tokenizer_put_added(oz_tokenizer *, const oz_added *, const char *file); /* flags only; match is set here */
OZ_MUST oz_status oz_tokenizer_finish(oz_tokenizer *, const char *file);
OZ_MUST oz_status oz_tokenizer_from_gguf(oz_tokenizer **, const oz_ckpt *);
#endif
