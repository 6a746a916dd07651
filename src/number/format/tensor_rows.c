/* number/format/tensor_rows.c: rows of any checkpoint tensor as f32: every element type, and the ggml block types Ounce can decode.
 * A row is the innermost dimension; outer dimensions are flattened. */
#include "number/format/format_internal.h"

oz_status oz_tensor_rows(const oz_tensor *t, int64_t row0, int64_t rows, float *out)
{
    int64_t n = t->rank ? t->shape[t->rank - 1] : 1, count = oz_tensor_count(t), all = n ? count / n : 0;
    if (row0 < 0 || rows < 0 || row0 > all - rows)
        return oz_fail(OZ_ERR_SHAPE, NULL, "tensor %s has %lld rows, asked for %lld to %lld", t->name, (long long)all, (long long)row0,
                       (long long)(row0 + rows));
    const oz_ggml_type *g = t->ggml_type == OZ_GGML_NONE ? NULL : oz_ggml_type_info(t->ggml_type);
    if (t->ggml_type != OZ_GGML_NONE && (!g || g->block > 1)) {
        int kind = oz_ggml_kind(t->ggml_type);
        if (kind < 0)
            return oz_fail(OZ_ERR_UNSUPPORTED, "types that can be read: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k",
                           "tensor %s is of GGUF type %s (%d), which Ounce cannot decode", t->name, g ? g->name : "unknown", t->ggml_type);
        size_t row_bytes = (size_t)oz_ggml_row_bytes(kind, n);
        if (n % g->block || t->bytes / (row_bytes ? row_bytes : 1) < (size_t)all)
            return oz_fail(OZ_ERR_PARSE, NULL, "tensor %s: %zu bytes do not hold %lld rows of %lld %s values", t->name, t->bytes,
                           (long long)all, (long long)n, g->name);
        oz_ggml_rows(kind, t->data + (size_t)row0 * row_bytes, rows, n, out);
        return OZ_OK;
    }
    size_t size = oz_dtype_size(t->dtype);
    if (!size || t->bytes / size < (size_t)count)
        return oz_fail(OZ_ERR_PARSE, NULL, "tensor %s: %zu bytes do not hold %lld values of type %s", t->name, t->bytes, (long long)count,
                       oz_dtype_name(t->dtype));
    oz_to_f32(t->dtype, t->data + (size_t)(row0 * n) * size, out, rows * n);
    return OZ_OK;
}
