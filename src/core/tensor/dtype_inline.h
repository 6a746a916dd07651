/* dtype_inline.h: branch-free conversions, so that compilers can turn a loop over them into vector code.  Shared by dtype.c and
 * convert.c only.  Subnormals are made and read by adding a constant whose last place is the subnormal step: the addition itself
 * rounds to nearest even. */
#ifndef OUNCE_DTYPE_INLINE_H
#define OUNCE_DTYPE_INLINE_H
#include "ounce/tensor.h"

#include <string.h>

static inline uint32_t f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float bits_f32(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* a when yes, b otherwise, without a branch (yes is 0 or 1) */
static inline uint32_t choose(uint32_t yes, uint32_t a, uint32_t b) { return b ^ ((a ^ b) & (0u - yes)); }

static inline float f16_to_f32(uint16_t h)
{
    uint32_t e = (uint32_t)h & 0x7c00u, x = ((uint32_t)h & 0x7fffu) << 13;
    uint32_t small = f32_bits(bits_f32(x + (113u << 23)) - bits_f32(113u << 23)); /* 2^-14 (1 + f) - 2^-14 */
    uint32_t big = (x + (112u << 23)) | choose(e == 0x7c00u, 0x7f800000u, 0) | choose(((uint32_t)h & 0x7fffu) > 0x7c00u, 0x00400000u, 0);
    return bits_f32(choose(e == 0, small, big) | ((uint32_t)h & 0x8000u) << 16);
}

static inline uint16_t f32_to_f16(float f)
{
    uint32_t u = f32_bits(f), x = u & 0x7fffffffu;
    uint32_t clamped = choose(x < 0x47800000u, x, 0x47800000u); /* 65536 and above: infinity */
    uint32_t small = f32_bits(bits_f32(choose(x < 0x38800000u, x, 0)) + 0.5f) - 0x3f000000u;
    uint32_t big = (clamped - (112u << 23) + 0xfffu + ((clamped >> 13) & 1u)) >> 13;
    uint32_t h = choose(x < 0x38800000u, small, big);
    h = choose(x > 0x7f800000u, 0x7e00u | ((x >> 13) & 0x3ffu), h);
    return (uint16_t)(h | (u >> 16 & 0x8000u));
}

static inline float bf16_to_f32(uint16_t h) { return bits_f32((uint32_t)h << 16); }

static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u = f32_bits(f), r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (uint16_t)choose((u & 0x7fffffffu) > 0x7f800000u, u >> 16 | 0x40u, r);
}

static inline float e4m3_to_f32(uint8_t c)
{
    uint32_t x = ((uint32_t)c & 0x7fu) << 20;
    uint32_t small = f32_bits(bits_f32(x + (121u << 23)) - bits_f32(121u << 23));
    uint32_t big = choose(((uint32_t)c & 0x7fu) == 0x7fu, 0x7fc00000u, x + (120u << 23));
    return bits_f32(choose(((uint32_t)c & 0x78u) == 0, small, big) | ((uint32_t)c & 0x80u) << 24);
}

static inline uint8_t f32_to_e4m3(float f)
{
    uint32_t u = f32_bits(f), x = u & 0x7fffffffu;
    uint32_t clamped = choose(x < 0x43e00000u, x, 0x43e00000u); /* 448 */
    uint32_t small = f32_bits(bits_f32(choose(x < 0x3c800000u, x, 0)) + 16384.0f) - 0x46800000u;
    uint32_t big = (clamped - (120u << 23) + 0x7ffffu + ((clamped >> 20) & 1u)) >> 20;
    uint32_t c = choose(x < 0x3c800000u, small, big);
    c = choose(x > 0x7f800000u, 0x7fu, c);
    return (uint8_t)(c | (u >> 24 & 0x80u));
}

static inline uint8_t f32_to_e5m2(float f)
{
    uint32_t u = f32_bits(f), x = u & 0x7fffffffu;
    uint32_t clamped = choose(x < 0x47800000u, x, 0x47800000u);
    uint32_t small = f32_bits(bits_f32(choose(x < 0x38800000u, x, 0)) + 128.0f) - 0x43000000u;
    uint32_t big = (clamped - (112u << 23) + 0xfffffu + ((clamped >> 21) & 1u)) >> 21;
    uint32_t c = choose(x < 0x38800000u, small, big);
    c = choose(x > 0x7f800000u, 0x7eu | ((x >> 21) & 3u), c);
    return (uint8_t)(c | (u >> 24 & 0x80u));
}
#endif
