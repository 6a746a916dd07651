/* ounce/text.h: tokenizers, chat templates, corpora. */
#ifndef OUNCE_TEXT_H
#define OUNCE_TEXT_H
#include "ounce/io.h"

/* ---- tokenizer ------------------------------------------------------------------------------------------- */
typedef struct oz_tokenizer oz_tokenizer;
/* From the checkpoint: tokenizer.json (+ tokenizer_config.json) of a directory, or GGUF metadata. */
OZ_MUST oz_status oz_tokenizer_open(oz_tokenizer **, const oz_ckpt *);
OZ_MUST oz_status oz_tokenizer_from_json(oz_tokenizer **, const char *tokenizer_json, size_t bytes, const char *config_json, size_t config_bytes, const char *file);
void oz_tokenizer_free(oz_tokenizer *);
int32_t oz_tokenizer_vocab(const oz_tokenizer *);
int32_t oz_tokenizer_bos(const oz_tokenizer *); /* -1: none */
int32_t oz_tokenizer_eos(const oz_tokenizer *);
bool oz_tokenizer_adds_bos(const oz_tokenizer *);           /* what the files say is put in front of a text */
bool oz_tokenizer_is_end(const oz_tokenizer *, int32_t id); /* eos, end of turn, ... */
const char *oz_tokenizer_kind(const oz_tokenizer *);        /* "byte-level BPE, smollm" */
enum { OZ_TOKENIZE_BOS = 1, OZ_TOKENIZE_SPECIAL = 2 /* the text may spell special tokens */ };
/* ids: malloc'd, *n of them. Malformed UTF-8 is legal input. */
OZ_MUST oz_status oz_tokenize(const oz_tokenizer *, const char *text, size_t bytes, unsigned flags, int32_t **ids, int64_t *n);
OZ_MUST oz_status oz_detokenize(const oz_tokenizer *, const int32_t *ids, int64_t n, bool skip_special, char **text, size_t *bytes);
/* Raw bytes of one token (in the tokenizer); streaming output keeps incomplete UTF-8 back with oz_utf8_complete. */
const char *oz_tokenizer_piece(const oz_tokenizer *, int32_t id, size_t *bytes);
bool oz_tokenizer_is_special(const oz_tokenizer *, int32_t id);
int32_t oz_tokenizer_find(const oz_tokenizer *, const char *piece); /* exact content incl. special tokens; -1 */
size_t oz_utf8_complete(const char *text, size_t bytes);   /* bytes of the longest prefix that ends on a whole character */
/* tokenizer.json built from GGUF metadata, tokenizer_config.json too; and GGUF metadata from tokenizer.json. Caller frees. */
OZ_MUST oz_status oz_tokenizer_export_json(const oz_tokenizer *, char **tokenizer_json, char **config_json);
OZ_MUST oz_status oz_tokenizer_export_gguf(const oz_tokenizer *, oz_out_meta **, int *n, oz_arena *);

/* ---- chat template (sandboxed Jinja subset; bounded steps, depth and output) ------------------------------- */
typedef struct oz_template oz_template;
OZ_MUST oz_status oz_template_open(oz_template **, const oz_ckpt *); /* chat_template.jinja, tokenizer_config.json or GGUF; OZ_ERR_KEY when the model has none */
OZ_MUST oz_status oz_template_parse(oz_template **, const char *source, size_t bytes, const char *file);
void oz_template_free(oz_template *);
const char *oz_template_source(const oz_template *);
/* vars: a map; "messages" is a list of {role, content}; "add_generation_prompt", "bos_token", "tools" ... Result malloc'd. */
OZ_MUST oz_status oz_template_render(const oz_template *, const oz_node *vars, char **text, size_t *bytes);

/* ---- corpora -------------------------------------------------------------------------------------------------- */
/* A source by name: a file (.txt, .jsonl with "text"), "-" (standard input), "default", "prose", "wikitext2", or a name under
 * $OUNCE_DATA (folders separated by ':') then ${XDG_DATA_HOME:-~/.local/share}/ounce.  part: which text of a corpus that has two; the held-out
 * half of `default` lacks the documents that its calibration half repeats. */
typedef enum { OZ_TEXT_CALIBRATION, OZ_TEXT_HELD_OUT } oz_text_part;
typedef struct oz_corpus {
    char *text; size_t bytes;
    char *name;               /* "default", or base name of the file */
    char *path;
    int64_t ndoc; size_t *doc;/* start of each document; paragraphs separated by blank lines for plain text */
    uint64_t *doc_hash;       /* to keep calibration and evaluation apart */
} oz_corpus;
OZ_MUST oz_status oz_corpus_open(oz_corpus **, const char *name, oz_text_part);
void oz_corpus_free(oz_corpus *);
/* How many documents the two have in common (hash and length). */
int64_t oz_corpus_overlap(const oz_corpus *, const oz_corpus *);
/* samples x length token windows. Tokenizes the text from the start (no BOS unless the tokenizer adds one, once a sample); a corpus shorter than
 * asked is read once: *n is what there was. ids: [*n x length]. */
OZ_MUST oz_status oz_corpus_windows(const oz_corpus *, const oz_tokenizer *, int64_t samples, int64_t length, bool bos, int32_t **ids, int64_t *n);
#endif
