/* model/attention.c: causal attention with grouped queries and an optional window, online softmax over tiles of keys.
 *
 *   q [rows x nq D], k, v [rows x nk D], rows of all sequences; out [rows x nq D]
 *   o_t = sum_j softmax_j(q_t k_j / sqrt(D)) v_j,  j in (t - window, t]
 * One task is one (sequence, kv head, tile of query rows): its result depends on nothing else, neither batch nor threads. */
#include "model/parts.h"
#include <math.h>
#include <string.h>

enum { QUERIES = 64, KEYS = 128 };

oz_status oz_norm_and_rotate(oz_model *m, int layer, oz_mat q, oz_mat k, const oz_seqs *s, oz_run *run)
{
    const oz_arch *arch = oz_arch_of(m);
    const oz_dims *d = &arch->dims;
    const float *qn = NULL, *kn = NULL;
    (void)run;
    if (d->qk_norm) {
        OZ_TRY(oz_model_vec(m, oz_arch_vector(arch, "q_norm", layer), &qn));
        OZ_TRY(oz_model_vec(m, oz_arch_vector(arch, "k_norm", layer), &kn));
    }
    if (d->rope.kind != OZ_ROPE_NONE) OZ_TRY(oz_rope_table(&m->rope, d, s->longest, s->longest));
    int64_t D = d->head_dim, rotated = d->rope.rotated;
    for (int i = 0; i < s->n; i++) {
        int64_t a = oz_seqs_start(s, i), b = oz_seqs_start(s, i + 1), pos = s->session ? s->session[i]->tokens : 0;
        for (int64_t r = a; r < b; r++, pos++) {
            oz_mat both[2] = {q, k};
            for (int w = 0; w < 2; w++) {
                float *x = both[w].p + r * both[w].ld;
                const float *gain = w ? kn : qn;
                int heads = w ? d->kv_heads : d->heads;
                if (gain && d->qk_norm_full) oz_nn_rmsnorm(x, gain, 0, d->norm_eps, heads * D, x);
                for (int h = 0; h < heads; h++) {
                    if (gain && !d->qk_norm_full) oz_nn_rmsnorm(x + h * D, gain, 0, d->norm_eps, D, x + h * D);
                    if (d->rope.kind != OZ_ROPE_NONE) oz_nn_rope(x + h * D, rotated, m->rope.cs + pos * rotated, true);
                }
            }
        }
    }
    return OZ_OK;
}

typedef struct job {
    oz_model *m;
    int layer;
    oz_mat q, k, v, out;
    const oz_seqs *s;
    int64_t tiles; /* query tiles of the longest sequence */
} job;

/* Scores and mixing of one tile, all query heads of one kv head. */
static oz_status tile(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const job *j = ctx;
    const oz_dims *d = &oz_arch_of(j->m)->dims;
    int64_t D = d->head_dim, group = d->heads / d->kv_heads;
    float scale = 1.0f / sqrtf((float)D);
    for (int64_t task = i0; task < i1; task++) {
        int64_t qt = task % j->tiles, kh = task / j->tiles % d->kv_heads, seq = task / j->tiles / d->kv_heads;
        int64_t a = oz_seqs_start(j->s, (int)seq), b = oz_seqs_start(j->s, (int)seq + 1);
        const oz_session *session = j->s->session ? j->s->session[seq] : NULL;
        int64_t past = session ? session->tokens : 0, r0 = a + qt * QUERIES, rn = b - r0 < QUERIES ? b - r0 : QUERIES;
        if (rn <= 0) continue;
        oz_arena_mark mark = oz_arena_save(work->arena);
        float *kt = oz_arena_alloc(work->arena, (size_t)(KEYS * D) * sizeof *kt),
              *vt = oz_arena_alloc(work->arena, (size_t)(KEYS * D) * sizeof *vt);
        float *qs = oz_arena_alloc(work->arena, (size_t)(QUERIES * D) * sizeof *qs),
              *sc = oz_arena_alloc(work->arena, QUERIES * KEYS * sizeof *sc);
        float *acc = oz_arena_alloc(work->arena, (size_t)(QUERIES * D * group) * sizeof *acc),
              *top = oz_arena_alloc(work->arena, (size_t)(QUERIES * group) * 2 * sizeof *top);
        if (!kt || !vt || !qs || !sc || !acc || !top) return OZ_ERR_NOMEM;
        float *sum = top + QUERIES * group;
        memset(acc, 0, (size_t)(QUERIES * D * group) * sizeof *acc);
        for (int64_t i = 0; i < QUERIES * group; i++) top[i] = -INFINITY, sum[i] = 0;
        int64_t p0 = past + r0 - a, last = p0 + rn; /* positions of this tile */
        int64_t first = d->window > 0 && p0 - d->window + 1 > 0 ? (p0 - d->window + 1) / KEYS * KEYS : 0;
        for (int64_t c = first; c < last; c += KEYS) {
            int64_t cn = last - c < KEYS ? last - c : KEYS;
            if (session) {
                oz_session_read(session, j->layer, false, (int)kh, c, cn, kt);
                oz_session_read(session, j->layer, true, (int)kh, c, cn, vt);
            } else {
                for (int64_t t = 0; t < cn; t++) {
                    memcpy(kt + t * D, j->k.p + (a + c + t) * j->k.ld + kh * D, (size_t)D * sizeof *kt);
                    memcpy(vt + t * D, j->v.p + (a + c + t) * j->v.ld + kh * D, (size_t)D * sizeof *vt);
                }
            }
            for (int64_t g = 0; g < group; g++) {
                for (int64_t r = 0; r < rn; r++)
                    for (int64_t e = 0; e < D; e++) qs[r * D + e] = j->q.p[(r0 + r) * j->q.ld + (kh * group + g) * D + e] * scale;
                OZ_TRY(oz_gemm(NULL, 0, 1, 1, oz_mat_of(qs, rn, D), oz_mat_of(kt, cn, D), 0, (oz_mat){sc, rn, cn, KEYS}));
                for (int64_t r = 0; r < rn; r++) {
                    float *x = sc + r * KEYS, *o = acc + (g * QUERIES + r) * D, *mx = &top[g * QUERIES + r], *sm = &sum[g * QUERIES + r],
                          most = *mx;
                    int64_t hi = p0 + r - c, lo = d->window > 0 ? p0 + r - d->window + 1 - c : 0; /* keys lo .. hi of this tile count */
                    if (hi >= cn) hi = cn - 1;
                    if (lo < 0) lo = 0;
                    for (int64_t t = lo; t <= hi; t++) most = x[t] > most ? x[t] : most;
                    float shrink = *mx == -INFINITY ? 0 : expf(*mx - most), total = 0;
                    for (int64_t t = 0; t < cn; t++) {
                        x[t] = t < lo || t > hi ? 0 : expf(x[t] - most);
                        total += x[t];
                    }
                    if (shrink != 1)
                        for (int64_t e = 0; e < D; e++) o[e] *= shrink;
                    *sm = *sm * shrink + total, *mx = most;
                }
                oz_mat o = {acc + g * QUERIES * D, rn, D, D};
                OZ_TRY(oz_gemm(NULL, 0, 0, 1, (oz_mat){sc, rn, cn, KEYS}, oz_mat_of(vt, cn, D), 1, o));
            }
        }
        for (int64_t g = 0; g < group; g++)
            for (int64_t r = 0; r < rn; r++) {
                float *y = j->out.p + (r0 + r) * j->out.ld + (kh * group + g) * D, inv = 1 / sum[g * QUERIES + r];
                for (int64_t e = 0; e < D; e++) y[e] = acc[(g * QUERIES + r) * D + e] * inv;
            }
        oz_arena_rewind(work->arena, mark);
    }
    return OZ_OK;
}

oz_status oz_attend_all(oz_model *m, int layer, oz_mat q, oz_mat k, oz_mat v, oz_mat out, const oz_seqs *s, oz_run *run)
{
    int64_t longest = 0;
    for (int i = 0; i < s->n; i++) {
        int64_t n = oz_seqs_start(s, i + 1) - oz_seqs_start(s, i);
        longest = n > longest ? n : longest;
    }
    job j = {m, layer, q, k, v, out, s, (longest + QUERIES - 1) / QUERIES};
    return oz_pool_for(run ? run->pool : NULL, j.tiles * oz_arch_of(m)->dims.kv_heads * s->n, 1, tile, &j);
}
