/* number/kernel/tiles.c: lays weights out for the kernels (card quick).  A tile is 16 rows; the byte order inside a vector is stated in
 * kernel.h.  Codes are moved so that the grid's zero is the centre of the tile's width whenever it fits (then no zero is stored):
 *     int3.asym  u - z in [-7, 7] fits 4 bits;   int4  8 is the centre already;   int4.asym  keeps u and stores z - 8;
 *     int8.asym  keeps u and stores z - 128;   .mid, .off and real zeros  store b. */
#include "number/kernel/cells.h"
#include "number/format/format_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static bool affine(const oz_fmt *f, oz_affine *a)
{
    if (!f->type || !oz_affine_of(f, a) || a->bits < 1 || a->bits > 8) return false;
    return a->group >= f->n || (a->group > 0 && a->group % 16 == 0);
}

bool oz_tiles_possible(const oz_fmt *f)
{
    oz_affine a;
    return affine(f, &a);
}

typedef struct pack {
    const oz_packed *w;
    oz_tiles *t;
    oz_affine a;
    bool whole;         /* every zero is an integer: no shift is stored */
    _Atomic int *flags; /* of the survey */
} pack;
enum { REAL_ZERO = 1, OFF_CENTRE = 2, WIDE_SCALE = 4 };

/* Where the zero z of a group goes: codes move by *move, what is left is stored.  Wider tiles than the grid absorb all of it. */
static int settle(const pack *p, int z, int *move)
{
    int c = oz_tile_centre(p->t->width), top = (1 << p->a.bits) - 1, most = 2 * c - 1;
    *move = c - z;
    if (*move >= 0 && top + *move <= most) return 0;
    *move = 0;
    return z - c;
}

/* Looks at all scales and zeros before storage is chosen. */
static oz_status survey(void *ctx, int64_t i0, int64_t i1, oz_work *work)
{
    const pack *p = ctx;
    float *s = oz_arena_alloc(work->arena, sizeof(float) * 2 * (size_t)p->t->groups), *z = s + p->t->groups;
    if (!s) return OZ_ERR_NOMEM;
    int found = 0;
    for (int64_t i = i0; i < i1; i++) {
        OZ_TRY(oz_affine_row(p->w, i, NULL, s, z));
        for (int64_t g = 0; g < p->t->groups; g++) {
            int move;
            if (oz_round_to(OZ_F16, s[g]) != s[g]) found |= WIDE_SCALE;
            if (p->a.offset || z[g] != rintf(z[g]) || fabsf(z[g]) > 255)
                found |= REAL_ZERO;
            else {
                int left = settle(p, (int)z[g], &move);
                if (left) found |= OFF_CENTRE;
                if (left < -128 || left > 127) found |= REAL_ZERO;
            }
        }
    }
    __atomic_or_fetch((int *)p->flags, found, __ATOMIC_RELAXED);
    return OZ_OK;
}

static oz_status lay(void *ctx, int64_t t0, int64_t t1, oz_work *work)
{
    const pack *p = ctx;
    oz_tiles *t = p->t;
    uint8_t *u = oz_arena_alloc(work->arena, (size_t)t->kpad);
    float *s = oz_arena_alloc(work->arena, sizeof(float) * 2 * (size_t)t->groups), *z = s + t->groups;
    if (!u || !s) return OZ_ERR_NOMEM;
    int c = oz_tile_centre(t->width), bits = oz_tile_bits(t->width), half = 1 << (p->a.bits - 1);
    int64_t step = oz_tile_step(t->width);
    for (int64_t i = t0 * OZ_TILE_ROWS; i < t1 * OZ_TILE_ROWS; i++) {
        int64_t tile = i / OZ_TILE_ROWS, r = i % OZ_TILE_ROWS;
        uint8_t *codes = t->codes + (size_t)tile * t->tile_bytes;
        bool real = i < t->rows; /* rows beyond the last: value 0 */
        if (real) OZ_TRY(oz_affine_row(p->w, i, u, s, z));
        for (int64_t g = 0; g < t->groups; g++) {
            int64_t at = (tile * t->groups + g) * OZ_TILE_ROWS + r, k = g * t->group, end = oz_run_end(k, t->group, t->kpad);
            int move = c - half, left = 0; /* the middle of the grid to the middle of the tile: b stays small */
            if (real && p->whole) left = settle(p, (int)z[g], &move);
            if (t->scale16) t->scale16[at] = real ? oz_f32_to_f16(s[g]) : 0;
            if (t->scale32) t->scale32[at] = real ? s[g] : 0;
            if (t->zero) t->zero[at] = (int8_t)left;
            if (t->shift) t->shift[at] = !real ? 0 : p->a.offset ? s[g] * (float)half + z[g] : s[g] * ((float)half - z[g]);
            for (; k < end; k++) {
                int code = real && k < t->cols ? u[k] + move : c;
                codes[64 * (k / step) + 4 * r + k % 4] |= (uint8_t)(code << (bits * (int)(k % step / 4)));
            }
        }
    }
    return OZ_OK;
}

void oz_tiles_free(oz_tiles *t)
{
    if (!t) return;
    oz_free(t->codes);
    oz_free(t->scale16);
    oz_free(t->scale32);
    oz_free(t->zero);
    oz_free(t->shift);
    oz_free(t->wsum);
    oz_free(t);
}

oz_status oz_tiles_new(oz_tiles **out, const oz_packed *w, oz_pool *pool)
{
    _Atomic int flags = 0;
    pack p = {.w = w, .flags = &flags};
    *out = NULL;
    if (!affine(&w->fmt, &p.a))
        return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "format %s has no tiles of integer codes", w->fmt.spec ? w->fmt.spec->text : "?");
    oz_tiles *t = p.t = oz_zalloc(1, sizeof *t);
    if (!t) return OZ_ERR_NOMEM;
    t->rows = w->fmt.m;
    t->cols = w->fmt.n;
    t->kpad = (t->cols + 15) / 16 * 16;
    t->group = p.a.group >= t->cols ? t->kpad : p.a.group;
    t->groups = (t->cols + t->group - 1) / t->group;
    t->width = p.a.bits <= 2 ? OZ_TILE_2 : p.a.bits <= 4 ? OZ_TILE_4 : OZ_TILE_8;
    t->tile_bytes = (size_t)(t->kpad / oz_tile_step(t->width)) * 64;
    oz_status s = oz_pool_for(pool, t->rows, 64, survey, &p);
    if (s) goto fail;
    p.whole = !(flags & REAL_ZERO);
    size_t tiles = (size_t)((t->rows + OZ_TILE_ROWS - 1) / OZ_TILE_ROWS), n = tiles * (size_t)t->groups * OZ_TILE_ROWS;
    s = OZ_ERR_NOMEM;
    if (!(t->codes = oz_alloc_aligned(tiles * t->tile_bytes + 64, 64))) goto fail;
    memset(t->codes, 0, tiles * t->tile_bytes + 64);
    if (flags & WIDE_SCALE)
        t->scale32 = oz_alloc_aligned(n * sizeof(float), 64);
    else
        t->scale16 = oz_alloc_aligned(n * sizeof(uint16_t), 64);
    if (!t->scale16 && !t->scale32) goto fail;
    if (p.whole && flags & OFF_CENTRE && !(t->zero = oz_alloc_aligned(n, 64))) goto fail;
    if (!p.whole && !(t->shift = oz_alloc_aligned(n * sizeof(float), 64))) goto fail;
    s = oz_pool_for(pool, (int64_t)tiles, 4, lay, &p);
    if (s) goto fail;
    *out = t;
    return OZ_OK;
fail:
    oz_tiles_free(t);
    return s;
}

size_t oz_tiles_bytes(const oz_tiles *t)
{
    size_t tiles = (size_t)((t->rows + OZ_TILE_ROWS - 1) / OZ_TILE_ROWS), n = tiles * (size_t)t->groups * OZ_TILE_ROWS;
    size_t bytes = tiles * t->tile_bytes + n * ((t->scale16 ? 2 : 4) + (t->zero ? 1 : 0) + (t->shift ? 4 : 0));
    if (t->wsum) bytes += tiles * (size_t)((t->kpad + t->wsum_run - 1) / t->wsum_run) * OZ_TILE_ROWS * 4;
    return bytes;
}

oz_status oz_tiles_sums(oz_tiles *t, int64_t run)
{
    if (t->wsum && t->wsum_run == run) return OZ_OK;
    int64_t tiles = (t->rows + OZ_TILE_ROWS - 1) / OZ_TILE_ROWS, runs = (t->kpad + run - 1) / run;
    float *sums = oz_alloc_aligned((size_t)(tiles * runs) * OZ_TILE_ROWS * sizeof(float), 64);
    if (!sums) return OZ_ERR_NOMEM;
    int64_t step = oz_tile_step(t->width);
    int bits = oz_tile_bits(t->width), c = oz_tile_centre(t->width);
    for (int64_t tile = 0; tile < tiles; tile++)
        for (int64_t f = 0; f < runs; f++)
            for (int r = 0; r < OZ_TILE_ROWS; r++) {
                int64_t k = f * run, end = oz_run_end(k, run, t->kpad), at = (tile * t->groups + k / t->group) * OZ_TILE_ROWS + r;
                if (end > t->cols) end = t->cols;
                int64_t count = end - k, n = -count * (c + (t->zero ? t->zero[at] : 0));
                for (; k < end; k++)
                    n +=
                        t->codes[(size_t)tile * t->tile_bytes + (size_t)(64 * (k / step) + 4 * r + k % 4)] >> (bits * (int)(k % step / 4)) &
                        ((1 << bits) - 1);
                double s = t->scale16 ? (double)oz_f16_to_f32(t->scale16[at]) : (double)t->scale32[at];
                sums[(tile * runs + f) * OZ_TILE_ROWS + r] = (float)(s * (double)n + (t->shift ? (double)t->shift[at] * (double)count : 0));
            }
    oz_free(t->wsum);
    t->wsum = sums;
    t->wsum_run = run;
    return OZ_OK;
}

const char *oz_tiles_name(const oz_tiles *t, bool integer, char *out, size_t n)
{
    const oz_kernels *k;
    char group[32] = "row";
    if (t->group < t->kpad) snprintf(group, sizeof group, "g%" PRId64, t->group);
    if (oz_kernels_active(&k)) {
        snprintf(out, n, "none");
        return out;
    }
    snprintf(out, n, "%s b%d %s %s", integer ? "dot_int" : "fp", oz_tile_bits(t->width), group,
             oz_isa_name(k->from[integer ? OZ_CELL_DOT2 + t->width : OZ_CELL_ROWS2 + t->width]));
    return out;
}
