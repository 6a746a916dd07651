/* number/format/packed.c: helpers over the format hooks: bound matrices, working parameters, stored arrays (declare, load, view),
 * decode, and quantizing a whole matrix under fitted parameters. */
#include "number/format/format_internal.h"

#include <stdio.h>
#include <string.h>

/* ---- binding ---- */
oz_status oz_fmt_bind(oz_fmt *f, const oz_spec *spec, int64_t m, int64_t n, const char *tensor)
{
    memset(f, 0, sizeof *f);
    const char *name = tensor ? tensor : "matrix";
    if (!spec->type)
        return oz_fail(OZ_ERR_UNSUPPORTED, "give each linear one format", "%s: %s: a mix of formats inside one matrix is not built yet",
                       name, spec->text);
    if (m < 1 || n < 1 || m > INT64_C(1) << 40 || n > INT64_C(1) << 40)
        return oz_fail(OZ_ERR_SHAPE, NULL, "%s: %lld x %lld is no matrix that %s can hold", name, (long long)m, (long long)n, spec->text);
    *f = (oz_fmt){.spec = spec, .type = spec->type, .opt = spec->opt, .m = m, .n = n};
    f->shape.flags = spec->type->flags;
    oz_status s = spec->type->bind(spec, m, n, &f->shape);
    return s ? oz_fail_in(s, "%s", name) : OZ_OK;
}

oz_status oz_group_tile(const oz_spec *s, int64_t m, int64_t n, int64_t group_default, int64_t *rows, int64_t *cols)
{
    static const char *const names[] = {"", "", "row", "tensor", "token", "head", "channel", ""};
    *rows = 1;
    *cols = n;
    switch (s->group.kind) {
    case OZ_GROUP_DEFAULT:
        if (group_default) *cols = group_default;
        break;
    case OZ_GROUP_ROW:
        break;
    case OZ_GROUP_TENSOR:
        *rows = m;
        break;
    case OZ_GROUP_NUMBER:
    case OZ_GROUP_TILE:
        *rows = s->group.rows;
        *cols = s->group.cols;
        break;
    default:
        return oz_fail(OZ_ERR_UNSUPPORTED, "weights take @row, @tensor, @NUMBER or @ROWSxINPUTS", "%s: a weight has no group \"%s\"",
                       s->text, names[s->group.kind]);
    }
    if (*rows > m) *rows = m;
    if (*cols > n) *cols = n;
    return OZ_OK;
}

/* ---- parameters ---- */
float *oz_params_get(const oz_params *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->a[i].name, name)) return oz_array_data(&p->a[i]);
    return NULL;
}

void oz_params_drop(oz_params *p)
{
    for (int i = 0; i < p->n; i++) oz_array_drop(&p->a[i]);
    oz_free(p->a);
    *p = (oz_params){0};
}

/* ---- arrays ---- */
void oz_array_describe(oz_array *a, const char *name, oz_dtype dtype, int rank, int64_t d0, int64_t d1)
{
    memset(a, 0, sizeof *a);
    snprintf(a->name, sizeof a->name, "%s", name);
    a->v.dtype = dtype;
    a->v.rank = rank;
    a->v.shape[0] = d0;
    a->v.shape[1] = d1;
    a->v.stride[0] = rank > 1 ? d1 : 1;
    a->v.stride[1] = 1;
}

/* Lives in an arena: the reference count never reaches zero. */
#define BORROWED (1u << 30)
oz_status oz_array_borrow(oz_array *a, const char *name, oz_dtype dtype, int rank, int64_t d0, int64_t d1, const void *data,
                          oz_arena *arena)
{
    oz_buf *b = oz_arena_zalloc(arena, sizeof *b);
    if (!b) return OZ_ERR_NOMEM;
    oz_array_describe(a, name, dtype, rank, d0, d1);
    b->host = (void *)(uintptr_t)data;
    b->bytes = (size_t)(d0 * (rank > 1 ? d1 : 1)) * oz_dtype_size(dtype);
    b->refs = BORROWED;
    a->v.buf = b;
    return OZ_OK;
}

const oz_array *oz_packed_get(const oz_packed *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->a[i].name, name)) return &p->a[i];
    return NULL;
}

void oz_packed_drop(oz_packed *p)
{
    for (int i = 0; i < p->n; i++) oz_array_drop(&p->a[i]);
    oz_free(p->a);
    *p = (oz_packed){0};
}

size_t oz_packed_bytes(const oz_packed *p)
{
    size_t sum = 0;
    for (int i = 0; i < p->n; i++) sum += oz_array_bytes(&p->a[i]);
    return sum;
}

oz_status oz_packed_declare(const oz_fmt *f, oz_array out[8], int *n) { return f->type->layout(f, out, n); }

double oz_layout_bits(const oz_fmt *f)
{
    oz_array a[8];
    int n = 0;
    double bits = 0;
    if (f->type->layout(f, a, &n)) return 0;
    for (int i = 0; i < n; i++)
        bits += 8.0 * (double)a[i].v.shape[0] * (double)(a[i].v.rank > 1 ? a[i].v.shape[1] : 1) * (double)oz_dtype_size(a[i].v.dtype);
    return bits;
}

oz_status oz_packed_new(const oz_fmt *f, oz_packed *out)
{
    oz_array a[8];
    int n = 0;
    *out = (oz_packed){.fmt = *f};
    OZ_TRY(f->type->layout(f, a, &n));
    out->a = oz_zalloc((size_t)n, sizeof *out->a);
    if (!out->a) return OZ_ERR_NOMEM;
    for (int i = 0; i < n; i++) {
        oz_status s = oz_array_new(&out->a[i], a[i].name, a[i].v.dtype, a[i].v.rank, a[i].v.shape);
        if (s) {
            oz_packed_drop(out);
            return s;
        }
        out->n = i + 1;
    }
    return OZ_OK;
}

static oz_status load_array(oz_array *a, const oz_fmt *f, const oz_ckpt *ckpt, const char *prefix)
{
    char *name = oz_format_text("%s.%s", prefix, a->name);
    if (!name) return OZ_ERR_NOMEM;
    const oz_tensor *t;
    oz_status s = oz_ckpt_need(ckpt, name, &t);
    if (!s && (t->dtype != a->v.dtype || t->ggml_type != OZ_GGML_NONE))
        s = oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor %s is %s, format %s stores %s", oz_ckpt_path(ckpt), name, oz_dtype_name(t->dtype),
                    f->spec->text, oz_dtype_name(a->v.dtype));
    if (!s && (t->rank != a->v.rank || t->shape[0] != a->v.shape[0] || (t->rank > 1 && t->shape[1] != a->v.shape[1])))
        s = oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor %s has rank %d, %lld x %lld, format %s of a %lld x %lld matrix stores %lld x %lld",
                    oz_ckpt_path(ckpt), name, t->rank, (long long)t->shape[0], (long long)(t->rank > 1 ? t->shape[1] : 1), f->spec->text,
                    (long long)f->m, (long long)f->n, (long long)a->v.shape[0], (long long)a->v.shape[1]);
    oz_buf *b = s ? NULL : oz_zalloc(1, sizeof *b);
    if (!s && !b) s = OZ_ERR_NOMEM;
    if (!s) {
        b->host = (void *)(uintptr_t)t->data;
        b->bytes = t->bytes;
        b->refs = 1;
        a->v.buf = b;
    }
    oz_free(name);
    return s;
}

oz_status oz_packed_load(oz_packed *out, const oz_spec *spec, int64_t m, int64_t n, const oz_ckpt *ckpt, const char *prefix)
{
    oz_array a[8];
    int count = 0;
    memset(out, 0, sizeof *out);
    OZ_TRY(oz_fmt_bind(&out->fmt, spec, m, n, prefix));
    OZ_TRY(spec->type->layout(&out->fmt, a, &count));
    out->a = oz_zalloc((size_t)count, sizeof *out->a);
    if (!out->a) return OZ_ERR_NOMEM;
    for (int i = 0; i < count; i++) {
        out->a[i] = a[i];
        oz_status s = load_array(&out->a[i], &out->fmt, ckpt, prefix);
        if (s) {
            oz_packed_drop(out);
            return s;
        }
        out->n = i + 1;
    }
    return OZ_OK;
}

oz_status oz_packed_view(oz_packed *out, const oz_tensor *t, int64_t row0, int64_t m, oz_arena *arena)
{
    memset(out, 0, sizeof *out);
    if (t->rank < 1) return oz_fail(OZ_ERR_SHAPE, NULL, "tensor %s is a single number, not a matrix", t->name);
    int64_t n = t->shape[t->rank - 1], all = n ? oz_tensor_count(t) / n : 0;
    if (row0 < 0 || m < 1 || row0 > all - m)
        return oz_fail(OZ_ERR_SHAPE, NULL, "tensor %s has %lld rows, asked for %lld to %lld", t->name, (long long)all, (long long)row0,
                       (long long)(row0 + m));
    int kind = t->ggml_type == OZ_GGML_NONE ? -1 : oz_ggml_kind(t->ggml_type);
    char text[48];
    if (kind >= 0)
        snprintf(text, sizeof text, "gguf.%s", oz_ggml_kind_name(kind));
    else if (t->dtype == OZ_F32 || t->dtype == OZ_F16 || t->dtype == OZ_BF16)
        snprintf(text, sizeof text, "%s", oz_dtype_name(t->dtype));
    else {
        const oz_ggml_type *g = t->ggml_type == OZ_GGML_NONE ? NULL : oz_ggml_type_info(t->ggml_type);
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "tensor %s is of type %s, which Ounce cannot compute with", t->name,
                       g ? g->name : oz_dtype_name(t->dtype));
    }
    oz_spec *spec;
    OZ_TRY(oz_spec_parse(&spec, text, t->name, arena));
    OZ_TRY(oz_fmt_bind(&out->fmt, spec, m, n, t->name));
    oz_array a[8];
    int count;
    OZ_TRY(spec->type->layout(&out->fmt, a, &count));
    out->a = oz_zalloc(1, sizeof *out->a);
    if (!out->a) return OZ_ERR_NOMEM;
    size_t row_bytes = (size_t)a[0].v.shape[1] * oz_dtype_size(a[0].v.dtype);
    oz_status s = OZ_OK;
    if (t->bytes / (row_bytes ? row_bytes : 1) < (size_t)all)
        s = oz_fail(OZ_ERR_PARSE, NULL, "tensor %s has %zu bytes, %lld rows of %zu are expected", t->name, t->bytes, (long long)all,
                    row_bytes);
    if (!s) s = oz_array_borrow(&out->a[0], a[0].name, a[0].v.dtype, 2, m, a[0].v.shape[1], t->data + (size_t)row0 * row_bytes, arena);
    if (s) {
        oz_packed_drop(out);
        return s;
    }
    out->n = 1;
    return OZ_OK;
}

/* ---- decode and encode ---- */
oz_status oz_unpack(const oz_packed *p, int64_t row0, int64_t rows, oz_mat w)
{
    if (row0 < 0 || rows < 0 || row0 > p->fmt.m - rows || w.rows < rows || w.cols != p->fmt.n)
        return oz_fail(OZ_ERR_SHAPE, NULL, "rows %lld to %lld of a %lld x %lld matrix (%s) do not fit a %lld x %lld one", (long long)row0,
                       (long long)(row0 + rows), (long long)p->fmt.m, (long long)p->fmt.n, p->fmt.spec->text, (long long)w.rows,
                       (long long)w.cols);
    return p->fmt.type->unpack(p, row0, rows, 0, w);
}

typedef struct encode_job {
    const oz_fmt *f;
    const oz_params *p;
    oz_mat w, w_hat;
    uint8_t *codes;
} encode_job;

static oz_status encode_rows(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const encode_job *j = ctx;
    const oz_fmt *f = j->f;
    (void)work;
    const float *scale = oz_params_get(j->p, "scale"), *zero = oz_params_get(j->p, "zero");
    int64_t tc = oz_fmt_tiles_c(f), g = f->shape.prm_c, cb = f->shape.code_bytes;
    for (int64_t i = i0; i < i1; i++) {
        int64_t tr = i / f->shape.prm_r;
        for (int64_t t = 0; t < tc; t++) {
            int64_t c0 = t * g, len = f->n - c0 < g ? f->n - c0 : g;
            f->type->encode(f, scale ? scale[tr * tc + t] : 1, zero ? zero[tr * tc + t] : 0, j->w.p + i * j->w.ld + c0, len,
                            j->codes + (i * f->n + c0) * cb, j->w_hat.p ? j->w_hat.p + i * j->w_hat.ld + c0 : NULL);
        }
    }
    return OZ_OK;
}

oz_status oz_fmt_encode(const oz_fmt *f, const oz_params *p, oz_mat w, oz_packed *out, oz_mat w_hat, oz_pool *pool)
{
    memset(out, 0, sizeof *out);
    if (w.rows != f->m || w.cols != f->n || (w_hat.p && (w_hat.rows != f->m || w_hat.cols != f->n)))
        return oz_fail(OZ_ERR_SHAPE, NULL, "a %lld x %lld matrix was given to %s bound to %lld x %lld", (long long)w.rows,
                       (long long)w.cols, f->spec->text, (long long)f->m, (long long)f->n);
    if (!(f->shape.flags & OZ_FMT_PROJECT) || !(f->shape.flags & OZ_FMT_SCALAR))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "%s can be read, not written", f->spec->text);
    encode_job job = {f, p, w, w_hat, oz_alloc((size_t)f->m * (size_t)f->n, (size_t)f->shape.code_bytes)};
    if (!job.codes) return OZ_ERR_NOMEM;
    oz_status s = oz_pool_for(pool, f->m, 16, encode_rows, &job);
    if (!s) s = f->type->pack(f, p, job.codes, out);
    oz_free(job.codes);
    return s;
}
