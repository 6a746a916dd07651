/* Writes a GGUF file, matrix by matrix.
 *
 *   what is stored                     GGUF type
 *   gguf.X                             X, its blocks as they are
 *   f32, f16, bf16                     F32, F16, BF16
 *   int4@g  (g a multiple of 32)       Q4_0 exactly: the scale repeated, code + 8
 *   int8@g                             Q8_0 exactly
 *   int4.asym@g                        Q4_1: d = s, m = -s z rounded to f16 (said so on the attention list)
 *   nothing (not quantized)            the source's own blocks where no fold touched them, else --dtype, else the source's type when it
 *                                      is f32, f16 or bf16, else F16
 * Everything else is refused by tensor.  q and k rows go back into the neighbour order that llama files use. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/arch/family.h"
#include "quantize/recipe/recipe_internal.h"

enum { GGML_F32 = 0, GGML_F16 = 1, GGML_Q4_0 = 2, GGML_Q4_1 = 3, GGML_Q8_0 = 8, GGML_BF16 = 30 };
enum {
    MOSTLY_F32 = 0,
    MOSTLY_F16 = 1,
    MOSTLY_Q4_0 = 2,
    MOSTLY_Q4_1 = 3,
    MOSTLY_Q8_0 = 7,
    MOSTLY_Q5_0 = 8,
    MOSTLY_Q5_1 = 9,
    MOSTLY_BF16 = 32,
    GUESSED = 1024
};

typedef struct target {
    const oz_weights *w;
    const oz_export_source *from;
    const oz_export_options *o;
    oz_run *run;
    oz_arena *arena;
    oz_out_tensor *t;
    int n;
} target;

static const char *remedy = "quantize with --set weights.format=gguf.q4_0 (or another ggml type), or write to a directory";

/* ---- which type a linear becomes -------------------------------------------------------------------------------- */
static oz_status type_of_packed(const oz_linear_row *row, const oz_linear *lin, int *type)
{
    if (lin->nw != 1 || lin->nin || lin->nout)
        return oz_fail(OZ_ERR_EXPORT, remedy, "%s: GGUF holds no mixed members and no run-time maps", row->name);
    if (lin->nside) return oz_fail(OZ_ERR_EXPORT, remedy, "%s: GGUF holds no sidecar '+%s'", row->name, lin->side[0].type->entry.name);
    const oz_fmt *fmt = &lin->w->fmt;
    const char *text = fmt->spec ? fmt->spec->text : fmt->type->entry.name;
    if (strncmp(text, "gguf.", 5) == 0 && (*type = oz_ggml_type_find(text + 5)) != OZ_GGML_NONE) return OZ_OK;
    static const struct {
        const char *name;
        int type;
    } floats[] = {{"f32", GGML_F32}, {"f16", GGML_F16}, {"bf16", GGML_BF16}};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, floats[i].name) == 0) {
            *type = floats[i].type;
            return OZ_OK;
        }
    oz_kdesc k = {0};
    if (fmt->type->kernel) fmt->type->kernel(fmt, &k);
    const oz_array *scale = oz_packed_get(lin->w, "scale");
    bool grouped = k.family == OZ_KERNEL_DOT_INT && fmt->shape.prm_r == 1 && row->in % 32 == 0 &&
                   (fmt->shape.prm_c % 32 == 0 || fmt->shape.prm_c >= row->in);
    if (grouped && scale && scale->v.dtype == OZ_F16) {
        if (k.bits == 4 && k.zero_mode == OZ_ZERO_NONE)
            *type = GGML_Q4_0;
        else if (k.bits == 8 && k.zero_mode == OZ_ZERO_NONE)
            *type = GGML_Q8_0;
        else if (k.bits == 4 && k.zero_mode == OZ_ZERO_CODE)
            *type = GGML_Q4_1;
        else
            grouped = false;
        if (grouped) return OZ_OK;
    }
    return oz_fail(OZ_ERR_EXPORT, remedy, "%s: GGUF has no type that holds %s", row->name, text);
}

/* The source tensor when its bytes can be copied: a GGUF matrix that no fold touched. */
static const oz_tensor *copied_source(const target *g, int i)
{
    const oz_linear_row *row = &oz_weights_arch(g->w)->linear[i];
    if (oz_ckpt_kind_of(oz_weights_ckpt(g->w)) != OZ_CKPT_GGUF || oz_weights_folded(g->w, false, i) || g->o->dtype || !row->src.tensor)
        return NULL;
    const oz_tensor *t = oz_ckpt_find(oz_weights_ckpt(g->w), row->src.tensor);
    return t && t->ggml_type != OZ_GGML_NONE ? t : NULL;
}

static int dense_type(const target *g, int i)
{
    const oz_tensor *t = copied_source(g, i);
    if (t) return t->ggml_type;
    const char *d = g->o->dtype, *source = oz_weights_arch(g->w)->linear[i].src.tensor;
    if (d) return strcmp(d, "f32") == 0 ? GGML_F32 : strcmp(d, "bf16") == 0 ? GGML_BF16 : GGML_F16;
    t = source ? oz_ckpt_find(oz_weights_ckpt(g->w), source) : NULL;
    return t && t->dtype == OZ_F32 ? GGML_F32 : t && t->dtype == OZ_BF16 ? GGML_BF16 : GGML_F16;
}

/* ---- rows of a linear as GGUF blocks, in our row order -------------------------------------------------------------- */
static void block_rows(const oz_linear *lin, int type, int64_t rows, const float *w, uint8_t *out)
{
    const oz_fmt *fmt = &lin->w->fmt;
    const uint16_t *scale = oz_array_data(oz_packed_get(lin->w, "scale"));
    int64_t n = fmt->n, groups = oz_fmt_tiles_c(fmt), g = fmt->shape.prm_c;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c += 32) {
            uint16_t half = scale[r * groups + c / g];
            float s = oz_f16_to_f32(half), low = 0;
            if (type == GGML_Q4_1) { /* the zero from a decoded value cannot be read back, so m is the least level used with its code */
                for (int j = 0; j < 32; j++) low = w[r * n + c + j] < low ? w[r * n + c + j] : low;
            }
            memcpy(out, &half, 2);
            out += 2;
            if (type == GGML_Q8_0) {
                for (int j = 0; j < 32; j++) *out++ = (uint8_t)(int8_t)lrintf(w[r * n + c + j] / s);
                continue;
            }
            int shift = 8;
            if (type == GGML_Q4_1) {
                shift = (int)lrintf(-low / s); /* every level is s times an integer in [-15, 15]: shift brings the lowest to 0 */
                uint16_t m = oz_f32_to_f16(-s * (float)shift);
                memcpy(out, &m, 2);
                out += 2;
            }
            for (int j = 0; j < 16; j++) {
                int a = (int)lrintf(w[r * n + c + j] / s) + shift, b = (int)lrintf(w[r * n + c + j + 16] / s) + shift;
                *out++ = (uint8_t)((a & 15) | (b & 15) << 4);
            }
        }
}

static oz_status packed_bytes(const oz_linear *lin, int type, uint8_t *out, size_t bytes)
{
    const char *text = lin->w->fmt.spec ? lin->w->fmt.spec->text : "gguf.";
    bool remade = strncmp(text, "gguf.", 5) != 0 && (type == GGML_Q4_0 || type == GGML_Q4_1 || type == GGML_Q8_0);
    if (!remade) { /* one array: the blocks of a GGUF type, or the values of a float type */
        const oz_array *only = lin->w->n == 1 ? &lin->w->a[0] : NULL;
        if (!only || oz_array_bytes(only) != bytes)
            return oz_fail(OZ_ERR_SHAPE, NULL, "%s: %s has %zu bytes, GGUF wants %zu", lin->name, text, only ? oz_array_bytes(only) : 0,
                           bytes);
        memcpy(out, oz_array_data(only), bytes);
        return OZ_OK;
    }
    float *w = oz_alloc((size_t)(lin->out * lin->in), sizeof *w);
    oz_status s = w ? oz_unpack(lin->w, 0, lin->out, oz_mat_of(w, lin->out, lin->in)) : OZ_ERR_NOMEM;
    if (!s) block_rows(lin, type, lin->out, w, out);
    oz_free(w);
    return s;
}

static oz_dtype dtype_of(int type) { return type == GGML_F32 ? OZ_F32 : type == GGML_BF16 ? OZ_BF16 : OZ_F16; }

/* Halves order (i, i + D/2) to neighbours (2i, 2i + 1) in each of `heads` heads. */
static oz_status to_neighbours(uint8_t *rows, int64_t n, size_t row_bytes, int heads)
{
    uint8_t *copy = oz_alloc((size_t)n, row_bytes);
    if (!copy) return OZ_ERR_NOMEM;
    int64_t d = n / heads;
    memcpy(copy, rows, (size_t)n * row_bytes);
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < d / 2; i++)
            for (int64_t k = 0; k < 2; k++)
                memcpy(rows + (size_t)(h * d + 2 * i + k) * row_bytes, copy + (size_t)(h * d + k * (d / 2) + i) * row_bytes, row_bytes);
    oz_free(copy);
    return OZ_OK;
}

static int rope_heads(const target *g, const oz_linear_row *row)
{
    const oz_arch *arch = oz_weights_arch(g->w);
    const oz_family *family = oz_arch_family(arch);
    if (!family || !family->gguf_permuted) return 0;
    return strcmp(row->role, "q") == 0 ? arch->dims.heads : strcmp(row->role, "k") == 0 ? arch->dims.kv_heads : 0;
}

static oz_status put_linear(target *g, oz_writer *out, int i, const oz_out_tensor *t)
{
    const oz_linear_row *row = &oz_weights_arch(g->w)->linear[i];
    const oz_linear *lin = NULL;
    const oz_ggml_type *info = oz_ggml_type_info(t->ggml_type);
    size_t row_bytes = (size_t)(row->in / info->block) * (size_t)info->bytes, bytes = (size_t)row->out * row_bytes;
    size_t at = row->expert > 0 ? (size_t)row->expert * bytes : 0;
    OZ_TRY(g->from->linear(g->from->ctx, i, &lin));
    if (!lin) {
        const oz_tensor *source = copied_source(g, i);
        if (source) {
            size_t begin = (size_t)row->src.row0 * row_bytes + (row->src.expert > 0 ? (size_t)row->src.expert * bytes : 0);
            return oz_writer_put_part(out, t->name, at, source->data + begin, bytes);
        }
    }
    uint8_t *block = oz_alloc(bytes, 1);
    float *w = lin ? NULL : oz_alloc((size_t)(row->out * row->in), sizeof *w);
    oz_status s = block && (lin || w) ? OZ_OK : OZ_ERR_NOMEM;
    if (!s && lin) s = packed_bytes(lin, t->ggml_type, block, bytes);
    if (!s && !lin) {
        s = oz_weights_matrix(g->w, i, w);
        if (!s) oz_from_f32(dtype_of(t->ggml_type), w, block, row->out * row->in);
    }
    int heads = rope_heads(g, row);
    if (!s && heads) s = to_neighbours(block, row->out, row_bytes, heads);
    if (!s) s = oz_writer_put_part(out, t->name, at, block, bytes);
    oz_free(block);
    oz_free(w);
    return s;
}

/* ---- declaration ------------------------------------------------------------------------------------------------------ */
static oz_out_tensor *named(target *g, const char *name)
{
    for (int i = 0; i < g->n; i++)
        if (strcmp(g->t[i].name, name) == 0) return &g->t[i];
    return NULL;
}

static oz_status gguf_name(target *g, bool vector, int index, const char *ending, char **out)
{
    char name[128];
    OZ_TRY(oz_arch_gguf_name(oz_weights_arch(g->w), vector, index, name, sizeof name));
    *out = oz_arena_printf(g->arena, "%s%s", name, ending);
    return *out ? OZ_OK : OZ_ERR_NOMEM;
}

static oz_status declare_linear(target *g, int i, int *count)
{
    const oz_linear_row *row = &oz_weights_arch(g->w)->linear[i];
    const oz_linear *lin = NULL;
    char *name;
    int type = dense_type(g, i);
    OZ_TRY(gguf_name(g, false, i, ".weight", &name));
    OZ_TRY(g->from->linear(g->from->ctx, i, &lin));
    if (lin) OZ_TRY(type_of_packed(row, lin, &type));
    const oz_ggml_type *info = oz_ggml_type_info(type);
    if (!info || row->in % info->block)
        return oz_fail(OZ_ERR_EXPORT, remedy, "%s: %lld inputs are no multiple of the %d of ggml type %s", row->name, (long long)row->in,
                       info ? info->block : 0, info ? info->name : "?");
    if (lin && type == GGML_Q4_1 && strncmp(lin->w->fmt.spec->text, "gguf.", 5) && g->o->attention)
        OZ_TRY(oz_attend(g->o->attention, "replaced", row->name, "%s is re-encoded as Q4_1: its offsets are rounded to f16",
                         lin->w->fmt.spec->text));
    if (lin && lin->act.kind && g->o->attention)
        OZ_TRY(
            oz_attend(g->o->attention, "dropped", row->name, "GGUF keeps no activation format (%s)", lin->act.text ? lin->act.text : "?"));
    size_t bytes = (size_t)row->out * (size_t)(row->in / info->block) * (size_t)info->bytes;
    oz_out_tensor *t = named(g, name);
    if (t) { /* the next expert of a 3-D tensor */
        if (t->ggml_type != type)
            return oz_fail(OZ_ERR_EXPORT, "give all experts of a layer one format",
                           "%s: experts of %s have different formats; GGUF stores them as one tensor", row->name, name);
        t->shape[0]++, t->bytes += bytes;
    } else {
        t = &g->t[g->n++];
        *t = (oz_out_tensor){.name = name,
                             .ggml_type = type,
                             .dtype = type <= 1 || type == GGML_BF16 ? dtype_of(type) : OZ_U8,
                             .rank = 2,
                             .shape = {row->out, row->in},
                             .bytes = bytes};
        if (row->expert >= 0) t->rank = 3, t->shape[0] = 1, t->shape[1] = row->out, t->shape[2] = row->in;
    }
    count[type < 64 ? type : 63]++;
    if (row->bias.tensor) {
        OZ_TRY(gguf_name(g, false, i, ".bias", &name));
        g->t[g->n++] = (oz_out_tensor){
            .name = name, .ggml_type = GGML_F32, .dtype = OZ_F32, .rank = 1, .shape = {row->out}, .bytes = 4 * (size_t)row->out};
    }
    return OZ_OK;
}

static bool has_rope_factors(const oz_arch *arch) { return arch->dims.rope.kind == OZ_ROPE_LLAMA3; }

static bool is_stored(const oz_arch *arch, int i) { return !(i == arch->head && arch->head != arch->embed && arch->dims.tied); }

static oz_status declare(target *g, int *count)
{
    const oz_arch *arch = oz_weights_arch(g->w);
    g->t = oz_arena_zalloc(g->arena, (size_t)(2 * arch->nlinear + arch->nvector + 1) * sizeof *g->t);
    if (!g->t) return OZ_ERR_NOMEM;
    for (int i = 0; i < arch->nlinear; i++) {
        OZ_TRY(oz_check_cancel(g->run));
        if (is_stored(arch, i)) OZ_TRY(declare_linear(g, i, count));
    }
    for (int i = 0; i < arch->nvector; i++) {
        char *name;
        OZ_TRY(gguf_name(g, true, i, ".weight", &name));
        g->t[g->n++] = (oz_out_tensor){.name = name,
                                       .ggml_type = GGML_F32,
                                       .dtype = OZ_F32,
                                       .rank = 1,
                                       .shape = {arch->vector[i].n},
                                       .bytes = 4 * (size_t)arch->vector[i].n};
    }
    if (has_rope_factors(arch))
        g->t[g->n++] = (oz_out_tensor){.name = "rope_freqs.weight",
                                       .ggml_type = GGML_F32,
                                       .dtype = OZ_F32,
                                       .rank = 1,
                                       .shape = {arch->dims.rope.rotated / 2},
                                       .bytes = 4 * (size_t)(arch->dims.rope.rotated / 2)};
    return OZ_OK;
}

/* ---- metadata --------------------------------------------------------------------------------------------------------------- */
static uint32_t file_type(const int *count)
{
    static const struct {
        int type;
        uint32_t file;
    } map[] = {{GGML_F32, MOSTLY_F32}, {GGML_F16, MOSTLY_F16}, {GGML_Q4_0, MOSTLY_Q4_0}, {GGML_Q4_1, MOSTLY_Q4_1},
               {6, MOSTLY_Q5_0},       {7, MOSTLY_Q5_1},       {GGML_Q8_0, MOSTLY_Q8_0}, {GGML_BF16, MOSTLY_BF16}};
    int best = 0;
    for (int i = 1; i < 64; i++)
        if (count[i] > count[best]) best = i;
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (map[i].type == best) return map[i].file;
    return GUESSED;
}

/* The chat template as its file spells it; *text stays NULL where the model has none. */
static oz_status chat_template(const oz_ckpt *ckpt, const char **text, size_t *bytes, oz_arena *arena)
{
    static const char *const names[] = {"chat_template.jinja", "tokenizer_config.json"};
    for (int i = 0; i < 2 && !*text; i++) {
        char *path = oz_path_join(oz_ckpt_path(ckpt), names[i]), *file = NULL;
        size_t n = 0;
        if (!path) return OZ_ERR_NOMEM;
        bool there = oz_path_exists(path);
        oz_free(path);
        if (!there) continue;
        OZ_TRY(oz_ckpt_side_file(ckpt, names[i], &file, &n));
        oz_node *root = NULL;
        const oz_node *t = NULL;
        oz_status s = OZ_OK;
        if (i == 0) {
            *text = oz_arena_strndup(arena, file, n), *bytes = n;
            s = *text ? OZ_OK : OZ_ERR_NOMEM;
        } else {
            s = oz_json_parse(&root, file, n, names[i], arena);
            t = s ? NULL : oz_node_get(root, "chat_template");
        }
        oz_free(file);
        OZ_TRY(s);
        for (int k = 0; t && t->kind == OZ_NODE_LIST && k < t->n; k++) /* a list of {name, template}: its default */
            if (!strcmp(oz_node_text(oz_node_get(t->item[k].value, "name"), ""), "default")) t = oz_node_get(t->item[k].value, "template");
        if (t && t->kind == OZ_NODE_TEXT) *text = t->text, *bytes = t->length;
    }
    return OZ_OK;
}

static oz_status metadata(target *g, const uint32_t *type, const uint32_t *version, oz_out_meta **out, int *n)
{
    const oz_ckpt *ckpt = oz_weights_ckpt(g->w);
    oz_out_meta *own = NULL, *words = NULL, *all;
    int nown = 0, nwords = 0, k = 0;
    if (oz_ckpt_kind_of(ckpt) == OZ_CKPT_GGUF) {
        int count = oz_ckpt_meta_count(ckpt);
        all = oz_arena_zalloc(g->arena, ((size_t)count + 2) * sizeof *all);
        if (!all) return OZ_ERR_NOMEM;
        for (int i = 0; i < count; i++) {
            const oz_gguf_value *v = oz_ckpt_meta_at(ckpt, i);
            if (strcmp(v->key, "general.file_type") && strcmp(v->key, "general.quantization_version"))
                all[k++] = (oz_out_meta){.key = v->key, .copy = v};
        }
    } else {
        oz_tokenizer *tokenizer = NULL;
        OZ_TRY(oz_arch_gguf_meta(oz_weights_arch(g->w), ckpt, &own, &nown, g->arena));
        OZ_TRY(oz_tokenizer_open(&tokenizer, ckpt));
        oz_status s = oz_tokenizer_export_gguf(tokenizer, &words, &nwords, g->arena);
        oz_tokenizer_free(tokenizer);
        OZ_TRY(s);
        const char *chat = NULL;
        size_t length = 0;
        OZ_TRY(chat_template(ckpt, &chat, &length, g->arena));
        all = oz_arena_zalloc(g->arena, (size_t)(nown + nwords + 4) * sizeof *all);
        if (!all) return OZ_ERR_NOMEM;
        for (int i = 0; i < nown; i++)
            if (strcmp(own[i].key, "general.file_type") && strcmp(own[i].key, "general.quantization_version")) all[k++] = own[i];
        for (int i = 0; i < nwords; i++) all[k++] = words[i];
        if (chat) all[k++] = (oz_out_meta){.key = "tokenizer.chat_template", .kind = OZ_GGUF_STRING, .count = length, .data = chat};
    }
    all[k++] = (oz_out_meta){.key = "general.file_type", .kind = OZ_GGUF_U32, .count = 1, .data = type};
    all[k++] = (oz_out_meta){.key = "general.quantization_version", .kind = OZ_GGUF_U32, .count = 1, .data = version};
    *out = all, *n = k;
    return OZ_OK;
}

/* ---- all of it -------------------------------------------------------------------------------------------------------------------- */
static oz_status put_vectors(target *g, oz_writer *out)
{
    const oz_arch *arch = oz_weights_arch(g->w);
    for (int i = 0; i < arch->nvector + arch->nlinear; i++) {
        bool vector = i < arch->nvector, present = true;
        int k = vector ? i : i - arch->nvector;
        if (!vector && (!arch->linear[k].bias.tensor || !is_stored(arch, k))) continue;
        int64_t n = vector ? arch->vector[k].n : arch->linear[k].out;
        char *name;
        OZ_TRY(gguf_name(g, vector, k, vector ? ".weight" : ".bias", &name));
        float *x = oz_alloc((size_t)n, sizeof *x);
        oz_status s = !x ? OZ_ERR_NOMEM : vector ? oz_weights_vector(g->w, k, x) : oz_weights_bias(g->w, k, x, &present);
        int heads = vector ? 0 : rope_heads(g, &arch->linear[k]);
        if (!s && heads) s = to_neighbours((uint8_t *)x, n, sizeof *x, heads);
        if (!s) s = oz_writer_put(out, name, x, (size_t)n * sizeof *x);
        oz_free(x);
        OZ_TRY(s);
    }
    if (has_rope_factors(arch)) {
        int64_t n = arch->dims.rope.rotated / 2;
        float *x = oz_alloc((size_t)n, sizeof *x);
        bool present = false;
        oz_status s = x ? oz_arch_rope_factors(arch, x, &present) : OZ_ERR_NOMEM;
        if (!s) s = oz_writer_put(out, "rope_freqs.weight", x, (size_t)n * sizeof *x);
        oz_free(x);
        OZ_TRY(s);
    }
    return OZ_OK;
}

oz_status oz_export_gguf(const char *path, const oz_weights *w, const oz_export_source *from, const oz_export_options *o, uint64_t *bytes,
                         oz_run *run)
{
    const oz_arch *arch = oz_weights_arch(w);
    oz_arena *arena = NULL;
    oz_writer *out = NULL;
    oz_out_meta *meta = NULL;
    int nmeta = 0, count[64] = {0};
    uint32_t type = 0, version = 2;
    if (oz_path_exists(path) && !o->force)
        return oz_fail(OZ_ERR_POLICY, "give another -o, or --force", "%s: the output exists already", path);
    if (oz_weights_untied(w))
        return oz_fail(OZ_ERR_EXPORT, "leave the head's transform out", "%s: a head that a fold untied cannot be written to GGUF yet",
                       path);
    OZ_TRY(oz_arena_new(&arena, 0));
    target g = {.w = w, .from = from, .o = o, .run = run, .arena = arena};
    oz_status s = declare(&g, count);
    type = file_type(count);
    if (!s) s = metadata(&g, &type, &version, &meta, &nmeta);
    if (!s) s = oz_gguf_begin(&out, path, g.t, g.n, meta, nmeta, 32);
    if (!s) {
        for (int i = 0; !s && i < arch->nlinear; i++) {
            char *name;
            if (!is_stored(arch, i)) continue;
            oz_progress(run, "writing", i, arch->nlinear);
            s = oz_check_cancel(run);
            if (!s) s = gguf_name(&g, false, i, ".weight", &name);
            if (!s) s = put_linear(&g, out, i, named(&g, name));
        }
        if (!s) s = put_vectors(&g, out);
        if (s)
            oz_writer_abandon(out);
        else
            s = oz_writer_commit(out);
    }
    for (int i = 0; i < g.n; i++) *bytes += g.t[i].bytes;
    oz_arena_free(arena);
    return s;
}
