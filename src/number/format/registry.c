/* number/format/registry.c: the formats that exist (list.h), and the affine view over those that have one. */
#include "number/format/format_internal.h"

const oz_format *const *oz_formats(int *n)
{
#define OZ_FORMAT_AT(name) &oz_format_##name,
    static const oz_format *const all[] = {OZ_FORMATS(OZ_FORMAT_AT)};
#undef OZ_FORMAT_AT
    *n = (int)(sizeof all / sizeof *all);
    return all;
}

bool oz_affine_of(const oz_fmt *f, oz_affine *a)
{
    if (f->type == &oz_format_int) return oz_int_affine(f, a);
    if (f->type == &oz_format_ggml) return oz_ggml_affine(oz_ggml_opt_kind(f->opt), a);
    return false;
}

oz_status oz_affine_row(const oz_packed *p, int64_t row, uint8_t *u, float *scale, float *shift)
{
    oz_affine a;
    if (!oz_affine_of(&p->fmt, &a)) return oz_fail(OZ_ERR_UNSUPPORTED, NULL, "format %s has no integer codes", p->fmt.spec->text);
    if (row < 0 || row >= p->fmt.m)
        return oz_fail(OZ_ERR_RANGE, NULL, "row %lld of a matrix with %lld rows", (long long)row, (long long)p->fmt.m);
    if (p->fmt.type == &oz_format_int)
        oz_int_affine_row(p, row, u, scale, shift);
    else {
        int kind = oz_ggml_opt_kind(p->fmt.opt);
        const uint8_t *blocks = oz_array_data(&p->a[0]);
        oz_ggml_affine_row(kind, blocks + row * oz_ggml_row_bytes(kind, p->fmt.n), p->fmt.n, u, scale, shift);
    }
    return OZ_OK;
}
