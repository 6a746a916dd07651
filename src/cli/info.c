/* info.c: `ounce info MODEL`: what a checkpoint is and how it is stored. */
#include "cli/cli.h"
#include "ounce/model.h"

#include <string.h>

typedef struct info_options {
    bool tensors;
} info_options;

#define AT(f) offsetof(info_options, f)
static const oz_option options[] = {
    {.name = "tensors", .type = OZ_FLAG, .at = AT(tensors), .brief = "list every tensor with shape, format and bytes"}, {0}};

static bool put(oz_node *map, const char *key, oz_node *v, oz_arena *a) { return v && oz_node_put(map, key, v, a) == OZ_OK; }

typedef struct stored {
    const char *name, *format;
    int64_t out, in;
    double bytes;
    bool block;
    int layer;
    const char *role;
} stored;
typedef struct summary {
    stored *s;
    int n;
    double weights, bytes, linear_weights, linear_bytes;
} summary;

static bool starts(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0 && name[strlen(prefix)] == '.';
}

/* Each linear and vector with the bytes of all its arrays. */
static oz_status summarize(cli *c, const oz_ckpt *ckpt, const oz_arch *arch, const oz_node *record, summary *out)
{
    const oz_node *formats = oz_node_get(record, "tensors");
    out->s = oz_arena_zalloc(c->arena, (size_t)(arch->nlinear + arch->nvector + 1) * sizeof *out->s);
    if (!out->s) return OZ_ERR_NOMEM;
    for (int i = 0; i < arch->nlinear; i++) {
        const oz_linear_row *row = &arch->linear[i];
        if (i == arch->head && arch->head != arch->embed && arch->dims.tied) continue;
        stored *s = &out->s[out->n++];
        *s = (stored){.name = row->name, .out = row->out, .in = row->in, .block = row->layer >= 0, .layer = row->layer, .role = row->role};
        const oz_node *made = oz_node_get(oz_node_get(formats, row->name), "format");
        const oz_tensor *t = row->src.tensor ? oz_ckpt_find(ckpt, row->src.tensor) : NULL;
        if (made) {
            s->format = oz_node_text(made, "?");
            for (int k = 0; k < oz_ckpt_count(ckpt); k++)
                if (starts(oz_ckpt_tensor(ckpt, k)->name, row->name)) s->bytes += (double)oz_ckpt_tensor(ckpt, k)->bytes;
        } else if (t) {
            const oz_ggml_type *g = t->ggml_type != OZ_GGML_NONE ? oz_ggml_type_info(t->ggml_type) : NULL;
            s->format = g ? g->name : oz_dtype_name(t->dtype);
            s->bytes = (double)t->bytes * (double)(row->out * row->in) / (double)oz_tensor_count(t);
        } else {
            return oz_fail(OZ_ERR_KEY, NULL, "%s: tensor %s of linear %s is missing", oz_ckpt_path(ckpt),
                           row->src.tensor ? row->src.tensor : "?", row->name);
        }
        double n = (double)row->out * (double)row->in;
        out->weights += n, out->bytes += s->bytes;
        if (s->block) out->linear_weights += n, out->linear_bytes += s->bytes;
    }
    for (int i = 0; i < arch->nvector; i++) {
        const oz_tensor *t = oz_ckpt_find(ckpt, arch->vector[i].src.tensor);
        stored *s = &out->s[out->n++];
        *s = (stored){.name = arch->vector[i].name,
                      .out = arch->vector[i].n,
                      .in = 1,
                      .role = arch->vector[i].role,
                      .layer = arch->vector[i].layer,
                      .format = t ? oz_dtype_name(t->dtype) : "?",
                      .bytes = t ? (double)t->bytes : 0};
        out->weights += (double)arch->vector[i].n, out->bytes += s->bytes;
    }
    return OZ_OK;
}

static int print_json(cli *c, const oz_ckpt *ckpt, const oz_arch *arch, const oz_node *record, const summary *m, const char *tokenizer)
{
    oz_arena *a = c->arena;
    oz_node *o = oz_node_map(a), *list = oz_node_list(a);
    bool good = o && list &&
                put(o, "format",
                    oz_node_of_text(a, oz_ckpt_kind_of(ckpt) == OZ_CKPT_GGUF ? "gguf"
                                       : record                              ? "ounce"
                                                                             : "hf"),
                    a);
    good = good && put(o, "architecture", oz_node_of_text(a, arch->name), a) &&
           put(o, "parameters", oz_node_of_int(a, (int64_t)m->weights), a);
    good = good && put(o, "layers", oz_node_of_int(a, arch->dims.layers), a) && put(o, "hidden", oz_node_of_int(a, arch->dims.hidden), a);
    good =
        good && put(o, "vocabulary", oz_node_of_int(a, arch->dims.vocab), a) && put(o, "context", oz_node_of_int(a, arch->dims.context), a);
    good = good && put(o, "bpw_linears", oz_node_of_real(a, 8 * m->linear_bytes / m->linear_weights), a);
    good = good && put(o, "bpw_file", oz_node_of_real(a, 8 * m->bytes / m->weights), a) &&
           put(o, "tokenizer", tokenizer ? oz_node_of_text(a, tokenizer) : oz_node_new(a, OZ_NODE_NULL), a);
    for (int i = 0; good && i < m->n; i++) {
        oz_node *t = oz_node_map(a), *shape = oz_node_list(a);
        good = t && shape && put(t, "name", oz_node_of_text(a, m->s[i].name), a) &&
               oz_node_push(shape, oz_node_of_int(a, m->s[i].out), a) == OZ_OK;
        if (good && m->s[i].in > 1) good = oz_node_push(shape, oz_node_of_int(a, m->s[i].in), a) == OZ_OK;
        good = good && put(t, "shape", shape, a) && put(t, "format", oz_node_of_text(a, m->s[i].format), a) &&
               put(t, "bytes", oz_node_of_int(a, (int64_t)m->s[i].bytes), a) && oz_node_push(list, t, a) == OZ_OK;
    }
    good = good && put(o, "tensors", list, a);
    if (good && record) good = put(o, "record", oz_node_copy(a, record), a);
    return cli_print_json(c, good ? o : NULL);
}

static void print_formats(cli *c, const summary *m)
{
    static const char *const head[] = {"linear", "shape", "format", "count", "bytes", "bpw"};
    cli_table *t = cli_table_new(c->arena, "lllrrr", head);
    bool *done = oz_arena_zalloc(c->arena, (size_t)m->n + 1);
    for (int i = 0; t && done && i < m->n; i++) {
        if (done[i] || m->s[i].in == 1) continue;
        int n = 0;
        double bytes = 0;
        for (int j = i; j < m->n; j++)
            if (!strcmp(m->s[j].role, m->s[i].role) && !strcmp(m->s[j].format, m->s[i].format) && m->s[j].in == m->s[i].in &&
                m->s[j].out == m->s[i].out)
                done[j] = true, n++, bytes += m->s[j].bytes;
        cli_table_cell(t, "%s", m->s[i].role);
        cli_table_cell(t, "%lld x %lld", (long long)m->s[i].out, (long long)m->s[i].in);
        cli_table_cell(t, "%s", m->s[i].format);
        cli_table_cell(t, "%d", n);
        cli_table_cell(t, "%s", cli_bytes(c, (uint64_t)bytes));
        cli_table_cell(t, "%.3f", 8 * bytes / ((double)n * (double)m->s[i].out * (double)m->s[i].in));
    }
    if (t) cli_table_print(t, stdout, 2);
}

static void print_record(const oz_node *record)
{
    const oz_node *recipe = oz_node_get(record, "recipe"), *quality = oz_node_get(record, "quality"),
                  *calibration = oz_node_get(record, "calibration");
    printf("%-14s %s (Ounce %s)\n", "made by", oz_node_text(oz_node_get(recipe, "name"), "?"),
           oz_node_text(oz_node_get(record, "version"), "?"));
    if (calibration)
        printf("%-14s '%s', %lld samples of %lld tokens\n", "calibrated on", oz_node_text(oz_node_get(calibration, "text"), "?"),
               (long long)oz_node_int(oz_node_get(calibration, "samples"), 0),
               (long long)oz_node_int(oz_node_get(calibration, "length"), 0));
    if (quality) {
        const oz_node *kld = oz_node_get(quality, "kld");
        printf("%-14s KLD %.5f, same top-1 %.2f %%, perplexity %.4f (reference %.4f) on '%s', %lld tokens\n", "quality",
               oz_node_real(oz_node_get(kld, "mean"), 0), 100 * oz_node_real(oz_node_get(quality, "top1"), 0),
               oz_node_real(oz_node_get(quality, "ppl"), 0), oz_node_real(oz_node_get(quality, "ppl_reference"), 0),
               oz_node_text(oz_node_get(quality, "text"), "?"), (long long)oz_node_int(oz_node_get(quality, "tokens"), 0));
        printf("%-14s %s\n", "measured by", oz_node_text(oz_node_get(quality, "command"), "?"));
    }
}

static void print_text(cli *c, const oz_ckpt *ckpt, const oz_arch *arch, const oz_node *record, const summary *m, const char *tokenizer)
{
    const info_options *o = c->opt;
    const oz_dims *d = &arch->dims;
    printf("%-14s %s\n", "file", oz_ckpt_path(ckpt));
    printf("%-14s %s\n", "kind",
           oz_ckpt_kind_of(ckpt) == OZ_CKPT_GGUF ? "GGUF"
           : record                              ? "Hugging Face directory written by Ounce"
                                                 : "Hugging Face directory");
    printf("%-14s %s, %.1f M parameters\n", "architecture", arch->name, m->weights / 1e6);
    printf("%-14s %d layers, hidden %d, %d heads (%d kv) of %d, mlp %d, vocabulary %d, context %d%s\n", "shape", d->layers, d->hidden,
           d->heads, d->kv_heads, d->head_dim, d->experts ? d->expert_ffn : d->ffn, d->vocab, d->context,
           arch->head == arch->embed || d->tied ? ", head tied" : "");
    if (d->experts) printf("%-14s %d, %d used a token\n", "experts", d->experts, d->experts_used);
    if (tokenizer) printf("%-14s %s\n", "tokenizer", tokenizer);
    if (arch->reference) printf("%-14s %s\n", "reference", arch->reference);
    printf("%-14s %.4f bits per weight (block linears), %.4f (whole file), %s\n", "size", 8 * m->linear_bytes / m->linear_weights,
           8 * m->bytes / m->weights, cli_bytes(c, (uint64_t)m->bytes));
    if (record) print_record(record);
    printf("\n");
    if (!o->tensors) {
        print_formats(c, m);
        return;
    }
    static const char *const head[] = {"tensor", "shape", "format", "bytes"};
    cli_table *t = cli_table_new(c->arena, "lllr", head);
    for (int i = 0; t && i < m->n; i++) {
        cli_table_cell(t, "%s", m->s[i].name);
        if (m->s[i].in > 1)
            cli_table_cell(t, "%lld x %lld", (long long)m->s[i].out, (long long)m->s[i].in);
        else
            cli_table_cell(t, "%lld", (long long)m->s[i].out);
        cli_table_cell(t, "%s", m->s[i].format);
        cli_table_cell(t, "%.0f", m->s[i].bytes);
    }
    if (t) cli_table_print(t, stdout, 0);
}

static int run(cli *c)
{
    oz_ckpt *ckpt = NULL;
    oz_arch *arch = NULL;
    oz_tokenizer *tokenizer = NULL;
    summary m = {0};
    const char *kind = NULL;
    const oz_node *record = NULL;
    oz_status s = oz_ckpt_open(&ckpt, c->arg[0]);
    if (!s) s = oz_arch_open(&arch, ckpt);
    if (!s) {
        const oz_node *q = oz_node_get(oz_ckpt_config(ckpt), "quantization_config");
        if (strcmp(oz_node_text(oz_node_get(q, "quant_method"), ""), "ounce") == 0) record = q;
        s = summarize(c, ckpt, arch, record, &m);
    }
    if (!s && oz_tokenizer_open(&tokenizer, ckpt) == OZ_OK)
        kind = oz_tokenizer_kind(tokenizer);
    else if (!s)
        cli_note(c, "tokenizer: %s", oz_message()); /* the rest is worth showing without it */
    int status;
    if (s) {
        status = cli_failed(c, s);
    } else if (c->json) {
        status = print_json(c, ckpt, arch, record, &m, kind);
    } else {
        print_text(c, ckpt, arch, record, &m, kind);
        status = cli_done(c);
    }
    oz_tokenizer_free(tokenizer);
    oz_arch_free(arch);
    oz_ckpt_close(ckpt);
    return status;
}

const cli_command cli_info = {.entry = {.kind = "command",
                                        .name = "info",
                                        .brief = "what a checkpoint is and how it is stored",
                                        .options = options,
                                        .options_size = sizeof(info_options)},
                              .usage = "MODEL",
                              .min_args = 1,
                              .max_args = 1,
                              .details = "Bits per weight count everything stored for the linears: codes, scales, zeros, sidecars.",
                              .json = "format        gguf, hf or ounce\n"
                                      "architecture  its name\n"
                                      "parameters    weights, a tied head once\n"
                                      "layers        blocks; hidden, vocabulary, context\n"
                                      "bpw_linears   of the blocks' linears\n"
                                      "bpw_file      of all tensors\n"
                                      "tokenizer     its kind or null\n"
                                      "tensors       [{name, shape, format, bytes}]\n"
                                      "record        quantization_config of a model Ounce wrote",
                              .examples = "ounce info model.gguf\nounce info model-4bit --tensors",
                              .run = run};
