/* number/map/map.c: maps that run beside a product.  Rows are tokens; x [T x in], y [T x out].
 *
 *     kind    arrays                                   forward                 inverse
 *     diag    a [n]                                    y_j = a_j x_j           x_j / a_j
 *     shift   a [n]                                    y_j = x_j + a_j         x_j - a_j
 *     perm    idx i32 [n], a permutation               y_j = x[idx_j]          y[idx_j] = x_j
 *     dense   a [out x in], b [in x out] (its inverse) y = A x                 B x
 *     blocks  a [n/block x block x block], b likewise  y_k = A_k x_k, block k  B_k x_k
 * T and INV_T are the transposes of the two; a shift has none.  hadamard, heads, kron and split are refused by name. */
#include "ounce/linear.h"

#include <string.h>

static const char *const names[] = {"diag", "shift", "perm", "hadamard", "blocks", "dense", "heads", "kron", "split"};
static const char *name_of(const oz_map *m) { return (unsigned)m->kind < sizeof names / sizeof *names ? names[m->kind] : "unknown"; }

/* y_row = A x_row (or Aᵀ x_row); A [rows x cols] row-major. */
static void multiply(const float *a, int64_t rows, int64_t cols, bool transposed, const float *x, float *y)
{
    if (transposed) {
        memset(y, 0, sizeof *y * (size_t)cols);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++) y[j] += a[i * cols + j] * x[i];
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        float sum = 0;
        for (int64_t j = 0; j < cols; j++) sum += a[i * cols + j] * x[j];
        y[i] = sum;
    }
}

static oz_status check(const oz_map *m, oz_map_dir dir, oz_mat x, oz_mat y)
{
    bool back = dir == OZ_MAP_INV || dir == OZ_MAP_T;
    int64_t in = back ? m->out : m->in, out = back ? m->in : m->out;
    if (x.cols != in || y.cols != out || x.rows != y.rows)
        return oz_fail(OZ_ERR_SHAPE, NULL, "a %s map of %lld inputs and %lld outputs was given %lld x %lld and %lld x %lld", name_of(m),
                       (long long)in, (long long)out, (long long)x.rows, (long long)x.cols, (long long)y.rows, (long long)y.cols);
    int64_t want = m->kind == OZ_MAP_DENSE ? (int64_t)m->in * m->out : m->kind == OZ_MAP_BLOCKS ? (int64_t)m->in * m->block : m->in;
    bool inverse = dir == OZ_MAP_INV || dir == OZ_MAP_INV_T;
    const oz_array *a = m->kind == OZ_MAP_PERM ? &m->idx : inverse && (m->kind == OZ_MAP_DENSE || m->kind == OZ_MAP_BLOCKS) ? &m->b : &m->a;
    if (!a->v.buf) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "this %s map stores no %s", name_of(m), inverse ? "inverse" : "values");
    if (oz_array_count(a) != want || (m->kind == OZ_MAP_BLOCKS && (m->block < 1 || m->in % m->block || m->in != m->out)))
        return oz_fail(OZ_ERR_SHAPE, NULL, "a %s map of %d inputs stores %lld values, expected %lld", name_of(m), m->in,
                       (long long)oz_array_count(a), (long long)want);
    return OZ_OK;
}

oz_status oz_map_apply(const oz_map *m, oz_map_dir dir, oz_mat x, oz_mat y, oz_work *work)
{
    (void)work;
    if (m->kind != OZ_MAP_DIAG && m->kind != OZ_MAP_SHIFT && m->kind != OZ_MAP_PERM && m->kind != OZ_MAP_DENSE && m->kind != OZ_MAP_BLOCKS)
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "maps of kind %s are not built yet", name_of(m));
    if (m->kind == OZ_MAP_SHIFT && (dir == OZ_MAP_T || dir == OZ_MAP_INV_T))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "a %s map has no transpose", name_of(m));
    OZ_TRY(check(m, dir, x, y));
    bool inverse = dir == OZ_MAP_INV || dir == OZ_MAP_INV_T, transposed = dir == OZ_MAP_T || dir == OZ_MAP_INV_T;
    int64_t n = x.cols;
    if (m->kind == OZ_MAP_DIAG || m->kind == OZ_MAP_SHIFT) {
        const float *a = oz_array_data(&m->a);
        for (int64_t t = 0; t < x.rows; t++) {
            const float *from = x.p + t * x.ld;
            float *to = y.p + t * y.ld;
            if (m->kind == OZ_MAP_SHIFT)
                for (int64_t j = 0; j < n; j++) to[j] = inverse ? from[j] - a[j] : from[j] + a[j];
            else
                for (int64_t j = 0; j < n; j++) to[j] = inverse ? from[j] / a[j] : from[j] * a[j];
        }
        return OZ_OK;
    }
    float *row = oz_alloc((size_t)n, sizeof *row); /* a copy of the token: x may be y */
    if (!row) return OZ_ERR_NOMEM;
    oz_status s = OZ_OK;
    const int32_t *idx = m->kind == OZ_MAP_PERM ? oz_array_data(&m->idx) : NULL;
    for (int64_t j = 0; idx && j < n && !s; j++)
        if (idx[j] < 0 || idx[j] >= n)
            s = oz_fail(OZ_ERR_RANGE, NULL, "a perm map of %lld inputs holds the index %d", (long long)n, idx[j]);
    const float *a = idx ? NULL : oz_array_data(inverse ? &m->b : &m->a);
    for (int64_t t = 0; t < x.rows && !s; t++) {
        float *to = y.p + t * y.ld;
        memcpy(row, x.p + t * x.ld, sizeof *row * (size_t)n);
        if (idx)
            for (int64_t j = 0; j < n; j++) {
                if (inverse != transposed)
                    to[idx[j]] = row[j];
                else
                    to[j] = row[idx[j]];
            }
        else if (m->kind == OZ_MAP_DENSE)
            multiply(a, inverse ? m->in : m->out, inverse ? m->out : m->in, transposed, row, to);
        else
            for (int64_t k = 0; k < n; k += m->block) multiply(a + k * m->block, m->block, m->block, transposed, row + k, to + k);
    }
    oz_free(row);
    return s;
}

oz_status oz_map_seal(oz_map *m)
{
    int32_t head[6] = {(int32_t)m->kind, m->in, m->out, m->block, m->n1, m->n2};
    uint64_t id = oz_hash64(head, sizeof head, m->seed);
    const oz_array *arrays[] = {&m->a, &m->b, &m->idx};
    for (int i = 0; i < 3; i++)
        if (arrays[i]->v.buf) id = oz_hash64(oz_array_data(arrays[i]), oz_array_bytes(arrays[i]), id + (uint64_t)i);
    m->id = id ? id : 1;
    return OZ_OK;
}
