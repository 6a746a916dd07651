/* Writes a Hugging Face directory: model.safetensors (sharded as its input), config.json with the record, tokenizer and side files.
 * Linear by linear: the largest thing in memory is one matrix.  The folder is written as PATH.tmp and renamed when complete. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

typedef struct tensors {
    oz_out_tensor *t;
    int n, room;
    oz_arena *arena;
} tensors;

static oz_status declare(tensors *list, char *name, oz_dtype dtype, int rank, const int64_t *shape)
{
    if (!name) return OZ_ERR_NOMEM;
    if (list->n == list->room) {
        int room = list->room ? 2 * list->room : 256;
        oz_out_tensor *more = oz_realloc(list->t, (size_t)room, sizeof *more);
        if (!more) return OZ_ERR_NOMEM;
        list->t = more, list->room = room;
    }
    oz_out_tensor *t = &list->t[list->n++];
    *t = (oz_out_tensor){.name = name, .dtype = dtype, .ggml_type = OZ_GGML_NONE, .rank = rank, .bytes = oz_dtype_size(dtype)};
    for (int i = 0; i < rank; i++) t->shape[i] = shape[i], t->bytes *= (size_t)shape[i];
    return OZ_OK;
}

/* Float sources keep their type; a folded matrix is rounded to it again; block types become f16.  Vectors that a fold touched are f32. */
static oz_dtype dense_type(const oz_weights *w, const char *tensor, const oz_export_options *o, bool vector, bool folded)
{
    if (vector && folded) return OZ_F32;
    if (o->dtype && !vector) return strcmp(o->dtype, "f32") == 0 ? OZ_F32 : strcmp(o->dtype, "bf16") == 0 ? OZ_BF16 : OZ_F16;
    const oz_tensor *t = tensor ? oz_ckpt_find(oz_weights_ckpt(w), tensor) : NULL;
    if (!t) return vector ? OZ_F32 : OZ_F16;
    if (t->ggml_type == OZ_GGML_NONE || t->ggml_type <= 1)
        return t->dtype == OZ_F32 || t->dtype == OZ_F16 || t->dtype == OZ_BF16 ? t->dtype : OZ_F32;
    return t->dtype == OZ_BF16 ? OZ_BF16 : OZ_F16;
}

static bool is_stored(const oz_arch *arch, int i) { return !(i == arch->head && arch->head != arch->embed && arch->dims.tied); }

static oz_status declare_all(tensors *list, const oz_weights *w, const oz_export_source *from, const oz_export_options *o, oz_run *run)
{
    const oz_arch *arch = oz_weights_arch(w);
    oz_arena *a = list->arena;
    for (int i = 0; i < arch->nlinear; i++) {
        const oz_linear_row *row = &arch->linear[i];
        const oz_linear *lin = NULL;
        if (!is_stored(arch, i)) continue;
        OZ_TRY(oz_check_cancel(run));
        OZ_TRY(from->linear(from->ctx, i, &lin));
        if (lin && (lin->nw != 1 || lin->nin || lin->nout))
            return oz_fail(OZ_ERR_EXPORT, NULL, "%s: mixed members and run-time maps cannot be stored in a directory yet", row->name);
        if (lin && lin->w->fmt.type && (lin->w->fmt.type->flags & OZ_FMT_FOREIGN))
            return oz_fail(OZ_ERR_EXPORT, "write to a file that ends in .gguf", "%s: %s lives only in GGUF files", row->name,
                           lin->w->fmt.spec->text);
        for (int k = 0; lin && k < lin->w->n; k++) {
            const oz_array *x = &lin->w->a[k];
            OZ_TRY(declare(list, oz_arena_printf(a, "%s.%s", row->name, x->name), x->v.dtype, x->v.rank, x->v.shape));
        }
        for (int d = 0; lin && d < lin->nside; d++)
            for (int k = 0; k < lin->side[d].n; k++) {
                const oz_array *x = &lin->side[d].a[k];
                OZ_TRY(declare(list, oz_arena_printf(a, "%s.%s.%s", row->name, lin->side[d].type->entry.name, x->name), x->v.dtype,
                               x->v.rank, x->v.shape));
            }
        if (!lin) {
            int64_t shape[2] = {row->out, row->in};
            OZ_TRY(declare(list, oz_arena_printf(a, "%s.weight", row->name),
                           dense_type(w, row->src.tensor, o, false, oz_weights_folded(w, false, i)), 2, shape));
        }
        if (row->bias.tensor)
            OZ_TRY(declare(list, oz_arena_printf(a, "%s.bias", row->name),
                           dense_type(w, row->bias.tensor, o, true, oz_weights_folded(w, false, i)), 1, &row->out));
    }
    for (int i = 0; i < arch->nvector; i++) {
        const oz_vector_row *v = &arch->vector[i];
        OZ_TRY(declare(list, oz_arena_printf(a, "%s.weight", v->name), dense_type(w, v->src.tensor, o, true, oz_weights_folded(w, true, i)),
                       1, &v->n));
    }
    return OZ_OK;
}

static const oz_out_tensor *declared(const tensors *list, const char *name)
{
    for (int i = 0; i < list->n; i++)
        if (strcmp(list->t[i].name, name) == 0) return &list->t[i];
    return NULL;
}

/* Dense rows in strips of 1 MiB or so. */
static oz_status put_dense(oz_hf_writer *out, const oz_weights *w, int i, const oz_out_tensor *t)
{
    const oz_linear_row *row = &oz_weights_arch(w)->linear[i];
    int64_t step = (1 << 20) / row->in + 1;
    float *x = oz_alloc((size_t)(step * row->in), sizeof *x);
    void *y = oz_alloc((size_t)(step * row->in), sizeof(float));
    oz_status s = x && y ? OZ_OK : OZ_ERR_NOMEM;
    size_t size = oz_dtype_size(t->dtype);
    for (int64_t r = 0; !s && r < row->out; r += step) {
        int64_t n = row->out - r < step ? row->out - r : step;
        s = oz_weights_rows(w, i, r, n, x);
        if (s) break;
        oz_from_f32(t->dtype, x, y, n * row->in);
        s = oz_hf_put_part(out, t->name, (size_t)(r * row->in) * size, y, (size_t)(n * row->in) * size);
    }
    oz_free(x);
    oz_free(y);
    return s;
}

static oz_status put_vector(oz_hf_writer *out, const oz_out_tensor *t, const float *x, int64_t n)
{
    void *y = oz_alloc((size_t)n, sizeof(float));
    if (!y) return OZ_ERR_NOMEM;
    oz_from_f32(t->dtype, x, y, n);
    oz_status s = oz_hf_put(out, t->name, y, t->bytes);
    oz_free(y);
    return s;
}

static oz_status put_all(oz_hf_writer *out, const tensors *list, const oz_weights *w, const oz_export_source *from, oz_run *run)
{
    const oz_arch *arch = oz_weights_arch(w);
    char name[384];
    for (int i = 0; i < arch->nlinear; i++) {
        const oz_linear_row *row = &arch->linear[i];
        const oz_linear *lin = NULL;
        if (!is_stored(arch, i)) continue;
        OZ_TRY(oz_check_cancel(run));
        oz_progress(run, "writing", i, arch->nlinear);
        OZ_TRY(from->linear(from->ctx, i, &lin));
        for (int k = 0; lin && k < lin->w->n; k++) {
            snprintf(name, sizeof name, "%s.%s", row->name, lin->w->a[k].name);
            OZ_TRY(oz_hf_put(out, name, oz_array_data(&lin->w->a[k]), oz_array_bytes(&lin->w->a[k])));
        }
        for (int d = 0; lin && d < lin->nside; d++)
            for (int k = 0; k < lin->side[d].n; k++) {
                snprintf(name, sizeof name, "%s.%s.%s", row->name, lin->side[d].type->entry.name, lin->side[d].a[k].name);
                OZ_TRY(oz_hf_put(out, name, oz_array_data(&lin->side[d].a[k]), oz_array_bytes(&lin->side[d].a[k])));
            }
        if (!lin) {
            snprintf(name, sizeof name, "%s.weight", row->name);
            OZ_TRY(put_dense(out, w, i, declared(list, name)));
        }
        if (row->bias.tensor) {
            bool present = false;
            snprintf(name, sizeof name, "%s.bias", row->name);
            float *b = oz_alloc((size_t)row->out, sizeof *b);
            oz_status s = b ? oz_weights_bias(w, i, b, &present) : OZ_ERR_NOMEM;
            if (!s) s = put_vector(out, declared(list, name), b, row->out);
            oz_free(b);
            OZ_TRY(s);
        }
    }
    for (int i = 0; i < arch->nvector; i++) {
        snprintf(name, sizeof name, "%s.weight", arch->vector[i].name);
        float *v = oz_alloc((size_t)arch->vector[i].n, sizeof *v);
        oz_status s = v ? oz_weights_vector(w, i, v) : OZ_ERR_NOMEM;
        if (!s) s = put_vector(out, declared(list, name), v, arch->vector[i].n);
        oz_free(v);
        OZ_TRY(s);
    }
    return OZ_OK;
}

static oz_status write_text(const char *dir, const char *name, const char *text, size_t bytes)
{
    char *path = oz_path_join(dir, name);
    oz_status s = path ? oz_write_file(path, text, bytes) : OZ_ERR_NOMEM;
    oz_free(path);
    return s;
}

/* Tokenizer, template and generation files travel unchanged; from GGUF they are built from the metadata. */
static oz_status write_side_files(const char *dir, const oz_weights *w)
{
    static const char *const carried[] = {"tokenizer.json",
                                          "tokenizer_config.json",
                                          "special_tokens_map.json",
                                          "added_tokens.json",
                                          "vocab.json",
                                          "merges.txt",
                                          "tokenizer.model",
                                          "chat_template.jinja",
                                          "chat_template.json",
                                          "generation_config.json",
                                          "LICENSE",
                                          "README.md",
                                          NULL};
    const oz_ckpt *ckpt = oz_weights_ckpt(w);
    if (oz_ckpt_kind_of(ckpt) == OZ_CKPT_HF) {
        for (int i = 0; carried[i]; i++) {
            char *text = NULL, *path = oz_path_join(oz_ckpt_path(ckpt), carried[i]);
            size_t bytes = 0;
            if (!path) return OZ_ERR_NOMEM;
            bool there = oz_path_exists(path);
            oz_free(path);
            if (!there) continue;
            OZ_TRY(oz_ckpt_side_file(ckpt, carried[i], &text, &bytes));
            oz_status s = write_text(dir, carried[i], text, bytes);
            oz_free(text);
            OZ_TRY(s);
        }
        return OZ_OK;
    }
    oz_tokenizer *tokenizer = NULL;
    char *json = NULL, *config = NULL;
    oz_status s = oz_tokenizer_open(&tokenizer, ckpt);
    if (!s) s = oz_tokenizer_export_json(tokenizer, &json, &config);
    if (!s) s = write_text(dir, "tokenizer.json", json, strlen(json));
    if (!s) s = write_text(dir, "tokenizer_config.json", config, strlen(config));
    size_t length = 0;
    const oz_gguf_value *chat = oz_ckpt_meta(ckpt, "tokenizer.chat_template");
    const char *template = chat ? oz_gguf_string(chat, &length) : NULL;
    if (!s && template) s = write_text(dir, "chat_template.jinja", template, length);
    oz_free(json);
    oz_free(config);
    oz_tokenizer_free(tokenizer);
    return s;
}

static oz_status write_config(const char *dir, const oz_weights *w, const oz_export_options *o, oz_arena *arena)
{
    oz_node *config = NULL;
    OZ_TRY(oz_arch_config(oz_weights_arch(w), oz_weights_ckpt(w), &config, arena));
    if (oz_weights_untied(w)) {
        oz_node *no = oz_node_of_bool(arena, false);
        if (!no) return OZ_ERR_NOMEM;
        OZ_TRY(oz_node_put(config, "tie_word_embeddings", no, arena));
    }
    if (o->record) {
        oz_node *record = oz_node_copy(arena, o->record);
        if (!record) return OZ_ERR_NOMEM;
        OZ_TRY(oz_node_put(config, "quantization_config", record, arena));
    }
    char *text = oz_json_print(config, 2);
    if (!text) return OZ_ERR_NOMEM;
    oz_status s = write_text(dir, "config.json", text, strlen(text));
    oz_free(text);
    return s;
}

/* Largest shard of the input, so that an output is sharded like it. */
static uint64_t shard_limit(const oz_ckpt *c)
{
    uint64_t bytes[256] = {0}, largest = 0;
    int shards = 0;
    for (int i = 0; i < oz_ckpt_count(c); i++) {
        const oz_tensor *t = oz_ckpt_tensor(c, i);
        int k = t->shard & 255;
        bytes[k] += t->bytes;
        if (bytes[k] > largest) largest = bytes[k];
        if (t->shard + 1 > shards) shards = t->shard + 1;
    }
    return shards > 1 ? largest : UINT64_MAX;
}

oz_status oz_export_hf(const char *path, const oz_weights *w, const oz_export_source *from, const oz_export_options *o, uint64_t *bytes,
                       oz_run *run)
{
    oz_arena *arena = NULL;
    oz_hf_writer *out = NULL;
    OZ_TRY(oz_arena_new(&arena, 0));
    tensors list = {.arena = arena};
    char *dir = oz_arena_printf(arena, "%s.tmp", path);
    oz_status s = dir ? OZ_OK : OZ_ERR_NOMEM;
    if (!s && oz_path_exists(dir)) s = oz_remove_tree(dir);
    if (!s) s = oz_make_dirs(dir);
    if (!s) s = declare_all(&list, w, from, o, run);
    if (!s) s = oz_hf_begin(&out, dir, list.t, list.n, NULL, 0, shard_limit(oz_weights_ckpt(w)), 64);
    if (!s) {
        s = put_all(out, &list, w, from, run);
        if (s)
            oz_hf_abandon(out);
        else
            s = oz_hf_commit(out);
    }
    if (!s) s = write_side_files(dir, w);
    if (!s) s = write_config(dir, w, o, arena);
    if (!s && oz_path_exists(path))
        s = o->force ? oz_remove_tree(path) : oz_fail(OZ_ERR_POLICY, "give another -o, or --force", "%s: the output exists already", path);
    if (!s && rename(dir, path)) s = oz_fail(OZ_ERR_IO, NULL, "%s: cannot be put under its name: %s", path, strerror(errno));
    if (s && dir) {
        oz_saved_error saved;
        oz_error_save(&saved, s);
        oz_status removed = oz_path_exists(dir) ? oz_remove_tree(dir) : OZ_OK; /* the first error is the one to tell */
        s = oz_error_restore(&saved);
        if (removed) oz_logf(run, OZ_LOG_WARN, "%s: could not be removed", dir);
    }
    *bytes = 0;
    for (int i = 0; i < list.n; i++) *bytes += list.t[i].bytes;
    oz_free(list.t);
    oz_arena_free(arena);
    return s;
}
