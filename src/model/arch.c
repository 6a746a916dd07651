/* model/arch.c: from an open checkpoint to rows of data: which family, which linears and vectors, which tensor each comes from.
 * Every tensor must be claimed by a row; what nobody claims is an error that lists it. */
#include "model/arch/family.h"
#include "model/arch/list.h"
#include "model/parts.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DECLARE(x) extern const oz_family oz_family_##x;
OZ_FAMILIES(DECLARE)
#define LIST(x) &oz_family_##x,
static const oz_family *const families[] = {OZ_FAMILIES(LIST)};
const oz_family *const *oz_families(int *n)
{
    *n = (int)(sizeof families / sizeof *families);
    return families;
}

typedef struct own_arch {
    oz_arch pub;
    const oz_family *family;
    oz_arena *arena;
} own_arch;
const oz_family *oz_arch_family(const oz_arch *a) { return ((const own_arch *)a)->family; }

void oz_arch_free(oz_arch *a)
{
    if (a) oz_arena_free(((own_arch *)a)->arena); /* the arena holds the arch itself */
}
int oz_arch_find(const oz_arch *a, const char *role, int layer, int expert)
{
    if (!strcmp(role, "head")) return a->head;
    for (int i = 0; i < a->nlinear; i++)
        if (a->linear[i].layer == layer && a->linear[i].expert == expert && !strcmp(a->linear[i].role, role)) return i;
    return -1;
}
int oz_arch_vector(const oz_arch *a, const char *role, int layer)
{
    for (int i = 0; i < a->nvector; i++)
        if (a->vector[i].layer == layer && !strcmp(a->vector[i].role, role)) return i;
    return -1;
}

/* ---- the tensors and who claims them ------------------------------------------------------------------------------------------------ */
typedef struct claim {
    const oz_tensor *t;
    bool taken;
} claim;
typedef struct builder {
    own_arch *a;
    const oz_ckpt *ck;
    const oz_node *record; /* "tensors" of quantization_config */
    bool gguf;
    claim *claim; /* sorted by name */
    int nclaim;
    uint64_t block_types; /* bits of ggml types among the block linears */
} builder;

static int by_name(const void *x, const void *y) { return strcmp(((const claim *)x)->t->name, ((const claim *)y)->t->name); }
static claim *claim_of(const builder *b, const char *name)
{
    oz_tensor t = {.name = name};
    claim key = {&t, false};
    return bsearch(&key, b->claim, (size_t)b->nclaim, sizeof *b->claim, by_name);
}
/* Arrays "<linear>.codes", "<linear>.cols.ids" ... of a linear in the record. */
static int claim_arrays(const builder *b, const char *linear)
{
    size_t n = strlen(linear);
    int lo = 0, hi = b->nclaim, found = 0;
    while (lo < hi) { /* first name >= "<linear>." */
        int mid = (lo + hi) / 2, c = strncmp(b->claim[mid].t->name, linear, n);
        if (c < 0 || (c == 0 && b->claim[mid].t->name[n] < '.'))
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < b->nclaim && !strncmp(b->claim[lo].t->name, linear, n) && b->claim[lo].t->name[n] == '.'; lo++, found++)
        b->claim[lo].taken = true;
    return found;
}

static int64_t dim_of(const oz_dims *d, char c)
{
    switch (c) {
    case 'd':
        return d->hidden;
    case 'q':
        return (int64_t)d->heads * d->head_dim;
    case 'k':
        return (int64_t)d->kv_heads * d->head_dim;
    case 'f':
        return d->ffn;
    case 'x':
        return d->expert_ffn;
    case 'n':
        return d->experts;
    case 'D':
        return d->head_dim;
    default:
        return d->vocab;
    }
}
static const char *expand(oz_arena *a, const char *pattern, int layer, int expert, const char *tail)
{
    char text[256];
    size_t n = 0;
    for (const char *p = pattern; *p && n + 16 < sizeof text; p++) {
        if (*p == '%') {
            n += (size_t)snprintf(text + n, sizeof text - n, "%d", p[1] == 'L' ? layer : expert);
            p++;
        } else
            text[n++] = *p;
    }
    text[n] = 0;
    return oz_arena_printf(a, "%s%s", text, tail);
}

/* Finds and checks one tensor. want: rank 1, 2 or (3-D experts) 3 sizes. */
static oz_status take(builder *b, const char *name, int rank, const int64_t *want, const oz_tensor **out)
{
    claim *c = claim_of(b, name);
    if (!c) return oz_ckpt_need(b->ck, name, out);
    const oz_tensor *t = *out = c->t;
    c->taken = true;
    bool same = t->rank == rank;
    for (int i = 0; i < rank && same; i++) same = t->shape[i] == want[i];
    if (same) return OZ_OK;
    char found[96] = "", expected[96] = "";
    for (int i = 0, n = 0; i < t->rank && i < 4; i++)
        n += snprintf(found + n, sizeof found - (size_t)n, "%s%lld", i ? " x " : "", (long long)t->shape[i]);
    for (int i = 0, n = 0; i < rank; i++)
        n += snprintf(expected + n, sizeof expected - (size_t)n, "%s%lld", i ? " x " : "", (long long)want[i]);
    return oz_fail(OZ_ERR_SHAPE, "the sizes in config.json or the metadata do not belong to these tensors",
                   "%s: tensor %s is %s, expected %s", oz_ckpt_path(b->ck), name, found, expected);
}

static bool has_bias(const oz_dims *d, uint8_t which)
{
    return which == OZ_BIAS_ATTN ? d->attn_bias : which == OZ_BIAS_O ? d->o_bias : which == OZ_BIAS_MLP ? d->mlp_bias : false;
}

static oz_status add_linear(builder *b, const oz_pattern *p, int layer, int expert)
{
    oz_arch *a = &b->a->pub;
    oz_arena *arena = b->a->arena;
    oz_linear_row *r = (oz_linear_row *)(uintptr_t)&a->linear[a->nlinear];
    *r = (oz_linear_row){
        .role = p->role, .layer = (int16_t)layer, .expert = (int16_t)expert, .stage = p->stage, .site_in = -1, .site_out = -1};
    r->out = dim_of(&a->dims, p->out);
    r->in = dim_of(&a->dims, p->in);
    r->name = expand(arena, p->hf, layer, expert, "");
    r->src = (oz_source){.tensor = expand(arena, b->gguf ? p->gguf : p->hf, layer, expert, ".weight"), .rows = r->out, .expert = -1};
    if (!r->name || !r->src.tensor) return OZ_ERR_NOMEM;
    bool slices = b->gguf && (p->flags & OZ_PAT_EXPERT);
    if (slices) r->src.expert = expert;
    if (b->gguf && b->a->family->gguf_permuted) {
        if (p->flags & OZ_PAT_ROPE_Q) r->src.unpermute_heads = a->dims.heads;
        if (p->flags & OZ_PAT_ROPE_K) r->src.unpermute_heads = a->dims.kv_heads;
    }
    const oz_tensor *t;
    if (oz_node_get(oz_node_get(b->record, r->name), "format")) {
        if (!claim_arrays(b, r->name))
            return oz_fail(OZ_ERR_KEY, NULL, "%s: quantization_config lists %s, but no array of it is stored", oz_ckpt_path(b->ck),
                           r->name);
    } else {
        int64_t want[3] = {a->dims.experts, r->out, r->in};
        OZ_TRY(take(b, r->src.tensor, slices ? 3 : 2, slices ? want : want + 1, &t));
        if (t->ggml_type > 1 && t->ggml_type < 64 && layer >= 0) b->block_types |= 1ull << t->ggml_type;
    }
    if (has_bias(&a->dims, p->bias)) {
        r->bias = (oz_source){.tensor = expand(arena, b->gguf ? p->gguf : p->hf, layer, expert, ".bias"),
                              .rows = r->out,
                              .expert = -1,
                              .unpermute_heads = r->src.unpermute_heads};
        if (!r->bias.tensor) return OZ_ERR_NOMEM;
        OZ_TRY(take(b, r->bias.tensor, 1, &r->out, &t));
    }
    a->nlinear++;
    return OZ_OK;
}
static oz_status add_vector(builder *b, const oz_pattern *p, int layer)
{
    oz_arch *a = &b->a->pub;
    oz_vector_row *r = (oz_vector_row *)(uintptr_t)&a->vector[a->nvector];
    *r = (oz_vector_row){.role = p->role, .layer = (int16_t)layer, .n = dim_of(&a->dims, p->out)};
    r->name = expand(b->a->arena, p->hf, layer, -1, "");
    r->src = (oz_source){.tensor = expand(b->a->arena, b->gguf ? p->gguf : p->hf, layer, -1, ".weight"), .rows = r->n, .expert = -1};
    if (!r->name || !r->src.tensor) return OZ_ERR_NOMEM;
    const oz_tensor *t;
    OZ_TRY(take(b, r->src.tensor, 1, &r->n, &t));
    a->nvector++;
    return OZ_OK;
}

static oz_status add_rows(builder *b)
{
    oz_arch *a = &b->a->pub;
    const oz_family *f = b->a->family;
    int experts = a->dims.experts ? a->dims.experts : 1;
    size_t most = (size_t)a->dims.layers * (8 + 3 * (size_t)experts) + 2;
    a->linear = oz_arena_alloc(b->a->arena, most * sizeof *a->linear);
    a->vector = oz_arena_alloc(b->a->arena, ((size_t)a->dims.layers * 4 + 1) * sizeof *a->vector);
    if (!a->linear || !a->vector) return OZ_ERR_NOMEM;
    for (int L = 0; L < a->dims.layers; L++) {
        for (const oz_pattern *p = f->pattern; p->role; p++)
            if ((p->flags & OZ_PAT_LAYER) && !(p->flags & OZ_PAT_EXPERT)) OZ_TRY(p->in ? add_linear(b, p, L, -1) : add_vector(b, p, L));
        for (int e = 0; e < a->dims.experts; e++)
            for (const oz_pattern *p = f->pattern; p->role; p++)
                if (p->flags & OZ_PAT_EXPERT) OZ_TRY(add_linear(b, p, L, e));
    }
    for (const oz_pattern *p = f->pattern; p->role; p++) {
        if (p->flags & OZ_PAT_LAYER) continue;
        if (!p->in) {
            a->final_norm = a->nvector;
            OZ_TRY(add_vector(b, p, -1));
        } else if (p->flags & OZ_PAT_TIED) {
            a->head = a->dims.tied ? a->embed : a->nlinear;
            if (!a->dims.tied)
                OZ_TRY(add_linear(b, p, -1, -1));
            else if (!b->gguf && claim_of(b, "lm_head.weight"))
                claim_of(b, "lm_head.weight")->taken = true; /* a copy of the embedding */
        } else {
            a->embed = a->nlinear;
            OZ_TRY(add_linear(b, p, -1, -1));
        }
    }
    return OZ_OK;
}

/* "a, b, c and 12 more" */
static void list_unclaimed(const builder *b, char *out, size_t size, int *count)
{
    size_t n = 0;
    *count = 0;
    for (int i = 0; i < b->nclaim; i++) {
        const char *name = b->claim[i].t->name;
        if (b->claim[i].taken) continue;
        if (!strncmp(name, "__pad.", 6) || strstr(name, ".rotary_emb.inv_freq") || (b->gguf && !strcmp(name, "rope_freqs.weight")))
            continue;
        (*count)++;
        if (n + strlen(name) + 24 < size)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", name);
        else {
            int more = 1;
            for (int j = i + 1; j < b->nclaim; j++) more += !b->claim[j].taken;
            (void)snprintf(out + n, size - n, " and %d more", more);
            *count += more - 1;
            return;
        }
    }
}

static oz_status sort_claims(builder *b)
{
    b->nclaim = oz_ckpt_count(b->ck);
    b->claim = oz_alloc((size_t)b->nclaim + 1, sizeof *b->claim);
    if (!b->claim) return OZ_ERR_NOMEM;
    for (int i = 0; i < b->nclaim; i++) b->claim[i] = (claim){oz_ckpt_tensor(b->ck, i), false};
    qsort(b->claim, (size_t)b->nclaim, sizeof *b->claim, by_name);
    return OZ_OK;
}

static oz_status unknown(const builder *b, const char *key, const char *word)
{
    char tensors[600], known[160];
    int count;
    size_t n = 0;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "known: ", families[i]->name);
    list_unclaimed(b, tensors, sizeof tensors, &count);
    return oz_fail(OZ_ERR_UNSUPPORTED, known, "%s: architecture \"%s\" (%s) is not known; nobody claims its %d tensors: %s",
                   oz_ckpt_path(b->ck), word, key, count, tensors);
}

static oz_status find_family(builder *b, const oz_node *config)
{
    char word[64] = "";
    size_t n = 0;
    if (b->gguf) {
        const oz_gguf_value *v = oz_ckpt_meta(b->ck, "general.architecture");
        const char *text = v ? oz_gguf_string(v, &n) : NULL;
        if (!text) return oz_fail(OZ_ERR_KEY, NULL, "%s: metadata \"general.architecture\" is missing", oz_ckpt_path(b->ck));
        (void)snprintf(word, sizeof word, "%.*s", (int)(n > 60 ? 60 : n), text);
        for (size_t i = 0; i < sizeof families / sizeof *families; i++)
            if (families[i]->gguf_reads && !strcmp(families[i]->gguf, word)) b->a->family = families[i];
    } else {
        if (!config)
            return oz_fail(OZ_ERR_KEY, "open the directory that holds config.json", "%s: no config.json beside the tensors",
                           oz_ckpt_path(b->ck));
        (void)snprintf(word, sizeof word, "%.60s", oz_node_text(oz_node_get(config, "model_type"), ""));
        for (size_t i = 0; i < sizeof families / sizeof *families; i++)
            if (!strcmp(families[i]->name, word)) b->a->family = families[i];
    }
    return b->a->family ? OZ_OK : unknown(b, b->gguf ? "general.architecture" : "model_type of config.json", word);
}

static oz_status note_reference(builder *b)
{
    char text[160];
    int n = snprintf(text, sizeof text, "dequantized from"), types = 0;
    for (int t = 2; t < 64; t++) {
        const oz_ggml_type *info = b->block_types >> t & 1 ? oz_ggml_type_info(t) : NULL;
        if (!info || info->block == 1) continue;
        n += snprintf(text + n, sizeof text - (size_t)n, "%s ", types++ ? "," : "");
        for (const char *p = info->name; *p && n + 2 < (int)sizeof text; p++) text[n++] = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
        text[n] = 0;
        if (n > 120) break;
    }
    if (!types) return OZ_OK;
    b->a->pub.reference = oz_arena_strdup(b->a->arena, text);
    return b->a->pub.reference ? OZ_OK : OZ_ERR_NOMEM;
}

static oz_status build(builder *b)
{
    oz_arch *a = &b->a->pub;
    const oz_node *config = oz_ckpt_config(b->ck), *q = oz_node_get(config, "quantization_config");
    OZ_TRY(sort_claims(b));
    OZ_TRY(find_family(b, config));
    a->name = b->a->family->name;
    if (q && q->kind == OZ_NODE_MAP) {
        const char *method = oz_node_text(oz_node_get(q, "quant_method"), "");
        if (strcmp(method, "ounce"))
            return oz_fail(OZ_ERR_UNSUPPORTED, "only directories Ounce wrote are read in quantized form",
                           "%s: quant_method \"%.60s\" of config.json is not read", oz_ckpt_path(b->ck), method);
        b->record = oz_node_get(q, "tensors");
        const char *from = oz_node_text(oz_node_get(q, "reference"), NULL);
        if (from && !(a->reference = oz_arena_strdup(b->a->arena, from))) return OZ_ERR_NOMEM;
    }
    OZ_TRY(b->gguf ? oz_dims_from_gguf(&a->dims, b->a->family, b->ck) : oz_dims_from_config(&a->dims, b->a->family, config, "config.json"));
    OZ_TRY(add_rows(b));
    char left[700];
    int count;
    list_unclaimed(b, left, sizeof left, &count);
    if (count)
        return oz_fail(OZ_ERR_UNSUPPORTED, "the checkpoint holds more than its architecture says: another model type, or an adapter",
                       "%s: %d tensors that architecture %s does not claim: %s", oz_ckpt_path(b->ck), count, a->name, left);
    OZ_TRY(note_reference(b));
    return oz_sites_build(a, (oz_linear_row *)(uintptr_t)a->linear, b->a->arena);
}

oz_status oz_arch_open(oz_arch **out, const oz_ckpt *ck)
{
    *out = NULL;
    oz_arena *arena;
    OZ_TRY(oz_arena_new(&arena, 0));
    builder b = {.ck = ck, .gguf = oz_ckpt_kind_of(ck) == OZ_CKPT_GGUF, .a = oz_arena_zalloc(arena, sizeof(own_arch))};
    if (!b.a) {
        oz_arena_free(arena);
        return OZ_ERR_NOMEM;
    }
    b.a->arena = arena;
    oz_status s = build(&b);
    oz_free(b.claim);
    if (s)
        oz_arena_free(arena);
    else
        *out = &b.a->pub;
    return s;
}

/* The same rows with the head as a linear of its own, appended last: what folding makes of a tied model. */
oz_status oz_arch_untie(oz_arch **out, const oz_arch *from)
{
    *out = NULL;
    oz_arena *arena;
    OZ_TRY(oz_arena_new(&arena, 0));
    own_arch *o = oz_arena_zalloc(arena, sizeof *o);
    oz_linear_row *lin = oz_arena_alloc(arena, ((size_t)from->nlinear + 1) * sizeof *lin);
    oz_status s = o && lin ? OZ_OK : OZ_ERR_NOMEM;
    if (!s) {
        *o = (own_arch){.pub = *from, .family = oz_arch_family(from), .arena = arena};
        memcpy(lin, from->linear, (size_t)from->nlinear * sizeof *lin);
        lin[from->nlinear] = from->linear[from->embed];
        lin[from->nlinear].name = "lm_head";
        lin[from->nlinear].role = "head";
        o->pub.linear = lin;
        o->pub.head = from->nlinear;
        o->pub.nlinear = from->nlinear + 1;
        o->pub.dims.tied = false;
        o->pub.nsite = 0;
        for (int i = 0; i < o->pub.nlinear; i++) lin[i].site_in = lin[i].site_out = -1;
        s = oz_sites_build(&o->pub, lin, arena);
    }
    if (s)
        oz_arena_free(arena);
    else
        *out = &o->pub;
    return s;
}

oz_status oz_arch_gguf_name(const oz_arch *a, bool vector, int index, char *out, size_t n)
{
    const char *role = vector ? a->vector[index].role : a->linear[index].role;
    int layer = vector ? a->vector[index].layer : a->linear[index].layer;
    for (const oz_pattern *p = oz_arch_family(a)->pattern; p->role; p++) {
        if (strcmp(p->role, role) || (p->in == 0) != vector) continue;
        size_t at = 0;
        for (const char *c = p->gguf; *c && at + 12 < n; c++)
            if (*c == '%') {
                at += (size_t)snprintf(out + at, n - at, "%d", layer);
                c++;
            } else
                out[at++] = *c;
        out[at] = 0;
        return OZ_OK;
    }
    return oz_fail(OZ_ERR_EXPORT, NULL, "GGUF has no name for %s of architecture %s", role, a->name);
}
