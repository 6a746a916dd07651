/* dtype.c: element types and the exact meaning of their bits, one value at a time.  The portable loops of convert.c inline the
 * same code.  Formats: IEEE 754 binary16, bfloat16; OCP 8-bit floating point E4M3 (FN: no infinity, 0x7f is NaN, largest 448) and
 * E5M2 (infinities as in binary16); OCP MX scale E8M0 (2^(code - 127), 255 is NaN). */
#include "core/tensor/dtype_inline.h"

size_t oz_dtype_size(oz_dtype t)
{
    switch (t) {
    case OZ_F64:
    case OZ_U64:
    case OZ_I64:
        return 8;
    case OZ_F32:
    case OZ_U32:
    case OZ_I32:
        return 4;
    case OZ_F16:
    case OZ_BF16:
    case OZ_U16:
    case OZ_I16:
        return 2;
    case OZ_E4M3:
    case OZ_E5M2:
    case OZ_E8M0:
    case OZ_U8:
    case OZ_I8:
    case OZ_BOOL:
        return 1;
    case OZ_DTYPE_COUNT:
        break;
    }
    return 0;
}

const char *oz_dtype_name(oz_dtype t)
{
    static const char *const name[OZ_DTYPE_COUNT] = {"f32", "f16", "bf16", "f64", "e4m3", "e5m2", "e8m0", "u8",
                                                     "i8",  "u16", "i16",  "u32", "i32",  "u64",  "i64",  "bool"};
    return (unsigned)t < OZ_DTYPE_COUNT ? name[t] : "unknown";
}

float oz_f16_to_f32(uint16_t h) { return f16_to_f32(h); }
uint16_t oz_f32_to_f16(float x) { return f32_to_f16(x); }
float oz_bf16_to_f32(uint16_t h) { return bf16_to_f32(h); }
uint16_t oz_f32_to_bf16(float x) { return f32_to_bf16(x); }
float oz_e4m3_to_f32(uint8_t c) { return e4m3_to_f32(c); }
uint8_t oz_f32_to_e4m3(float x) { return f32_to_e4m3(x); }
float oz_e5m2_to_f32(uint8_t c) { return f16_to_f32((uint16_t)(c << 8)); } /* E5M2 is the upper byte of binary16 */
uint8_t oz_f32_to_e5m2(float x) { return f32_to_e5m2(x); }

float oz_e8m0_to_f32(uint8_t c)
{
    if (c == 255) return bits_f32(0x7fc00000u);
    return c ? bits_f32((uint32_t)c << 23) : bits_f32(0x00400000u); /* 2^-127 is subnormal in f32 */
}

uint8_t oz_f32_to_e8m0(float x)
{
    uint32_t u = f32_bits(x);
    if (u > 0x7f7fffffu) return 255; /* negative (also -0), infinite or NaN: no such scale */
    uint32_t e = u >> 23, frac = u & 0x7fffffu;
    if (!e) return frac > 0x600000u; /* below 2^-126: 0 is 2^-127, 1 is 2^-126; their middle goes to the even code */
    e += frac > 0x400000u || (frac == 0x400000u && (e & 1));
    return (uint8_t)(e > 254 ? 254 : e);
}
