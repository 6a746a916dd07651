/* core/io/ggml_types.c: elements and bytes of a block of each ggml type, by its number in GGUF files.  Numbers that ggml
 * once gave away and took back (4, 5, 31 to 33, 36 to 38) stay empty.  From 133 on are the
 * types of ik_llama.cpp, some of which begin each row with a scale of its own.  Not here: types that only ever live in memory
 * (interleaved rows, "_r4") and those whose numbers two programs gave to different things (36: i2_s, 134, 135: *_bn). */
#include "core/io/io_internal.h"
#include <string.h>

static const struct {
    int number;
    oz_ggml_type type;
} types[] = {
    {0, {"f32", 1, 4, 0}},          {1, {"f16", 1, 2, 0}},          {2, {"q4_0", 32, 18, 0}},       {3, {"q4_1", 32, 20, 0}},
    {6, {"q5_0", 32, 22, 0}},       {7, {"q5_1", 32, 24, 0}},       {8, {"q8_0", 32, 34, 0}},       {9, {"q8_1", 32, 36, 0}},
    {10, {"q2_k", 256, 84, 0}},     {11, {"q3_k", 256, 110, 0}},    {12, {"q4_k", 256, 144, 0}},    {13, {"q5_k", 256, 176, 0}},
    {14, {"q6_k", 256, 210, 0}},    {15, {"q8_k", 256, 292, 0}},    {16, {"iq2_xxs", 256, 66, 0}},  {17, {"iq2_xs", 256, 74, 0}},
    {18, {"iq3_xxs", 256, 98, 0}},  {19, {"iq1_s", 256, 50, 0}},    {20, {"iq4_nl", 32, 18, 0}},    {21, {"iq3_s", 256, 110, 0}},
    {22, {"iq2_s", 256, 82, 0}},    {23, {"iq4_xs", 256, 136, 0}},  {24, {"i8", 1, 1, 0}},          {25, {"i16", 1, 2, 0}},
    {26, {"i32", 1, 4, 0}},         {27, {"i64", 1, 8, 0}},         {28, {"f64", 1, 8, 0}},         {29, {"iq1_m", 256, 56, 0}},
    {30, {"bf16", 1, 2, 0}},        {34, {"tq1_0", 256, 54, 0}},    {35, {"tq2_0", 256, 66, 0}},    {39, {"mxfp4", 32, 17, 0}},
    {40, {"nvfp4", 64, 36, 0}},     {41, {"q1_0", 128, 18, 0}},     {42, {"q2_0", 64, 18, 0}},      {133, {"q6_0", 32, 26, 0}},
    {137, {"iq2_k", 256, 76, 0}},   {138, {"iq3_k", 256, 110, 0}},  {139, {"iq4_k", 256, 144, 0}},  {140, {"iq5_k", 256, 176, 0}},
    {141, {"iq6_k", 256, 212, 0}},  {144, {"iq4_ks", 256, 136, 4}}, {145, {"iq2_ks", 256, 70, 2}},  {146, {"iq4_kss", 256, 128, 4}},
    {152, {"iq5_ks", 256, 168, 4}}, {153, {"iq2_kt", 256, 68, 4}},  {154, {"iq3_kt", 256, 100, 4}}, {155, {"iq4_kt", 256, 128, 4}},
    {156, {"iq3_ks", 256, 102, 2}}, {157, {"iq2_kl", 256, 86, 2}},  {158, {"iq1_kt", 256, 56, 4}},

};
enum { NTYPE = sizeof types / sizeof *types };

const oz_ggml_type *oz_ggml_type_info(int number)
{
    for (int i = 0; i < NTYPE; i++)
        if (types[i].number == number) return &types[i].type;
    return NULL;
}

int oz_ggml_type_find(const char *name)
{
    for (int i = 0; i < NTYPE; i++)
        if (!strcmp(types[i].type.name, name)) return types[i].number;
    return OZ_GGML_NONE;
}

bool oz_ggml_bytes(const oz_ggml_type *type, int rank, const int64_t *shape, size_t *bytes)
{
    int64_t row = rank ? shape[rank - 1] : 1;
    size_t n = (size_t)(row / type->block);
    bool fits = row >= 0 && row % type->block == 0 && oz_mul_size(n, (size_t)type->bytes, &n) && oz_add_size(n, (size_t)type->row, &n);
    for (int i = 0; i + 1 < rank && fits; i++) fits = shape[i] >= 0 && oz_mul_size(n, (size_t)shape[i], &n) && n <= INT64_MAX;
    int64_t count = 1; /* elements must fit as well: an empty dimension must not hide an overflow */
    for (int i = 0; i < rank && fits; i++) fits = !__builtin_mul_overflow(count, shape[i] ? shape[i] : 1, &count);
    *bytes = fits ? n : 0;
    return fits;
}
