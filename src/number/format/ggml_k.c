/* number/format/ggml_k.c: super-blocks of 256 inputs of the GGUF types q4_k, q5_k, q6_k, as codes with one scale and shift a group.
 *
 *     q4_k  144 bytes  d, dmin (f16), scales[12], qs[128]             8 groups of 32:  d*sc*u - dmin*mn
 *     q5_k  176 bytes  d, dmin, scales[12], qh[32], qs[128]           8 groups of 32, as q4_k with bit 4 of u in qh
 *     q6_k  210 bytes  ql[128], qh[64], scales[16] (signed), d        16 groups of 16: d*sc*(u - 32)
 * The eight 6-bit pairs (sc, mn) of q4_k and q5_k: bytes 0-3 hold sc 0-3 and, in their two high bits, the high bits of sc 4-7; bytes 4-7
 * the same of mn; bytes 8-11 the low nibbles of sc 4-7 (low) and mn 4-7 (high).  qs: 32 bytes serve 64 inputs, low nibbles first. */
#include "number/format/format_internal.h"

static float f16_at(const uint8_t *p) { return oz_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

static void scales_of(const uint8_t *b, float *scale, float *shift)
{
    float d = f16_at(b), dmin = f16_at(b + 2);
    const uint8_t *s = b + 4;
    for (int g = 0; g < 8; g++) {
        int sc = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
        int mn = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6) << 4;
        scale[g] = d * (float)sc;
        shift[g] = -(dmin * (float)mn);
    }
}

void oz_ggml_q4_k_block(const uint8_t *b, uint8_t *u, float *scale, float *shift)
{
    scales_of(b, scale, shift);
    const uint8_t *qs = b + 16;
    for (int c = 0; c < 4; c++)
        for (int j = 0; j < 32; j++) {
            u[64 * c + j] = qs[32 * c + j] & 15;
            u[64 * c + 32 + j] = qs[32 * c + j] >> 4;
        }
}

void oz_ggml_q5_k_block(const uint8_t *b, uint8_t *u, float *scale, float *shift)
{
    scales_of(b, scale, shift);
    const uint8_t *qh = b + 16, *qs = b + 48;
    for (int c = 0; c < 4; c++)
        for (int j = 0; j < 32; j++) {
            u[64 * c + j] = (uint8_t)((qs[32 * c + j] & 15) | (qh[j] >> 2 * c & 1) << 4);
            u[64 * c + 32 + j] = (uint8_t)(qs[32 * c + j] >> 4 | (qh[j] >> (2 * c + 1) & 1) << 4);
        }
}

/* Each half of 128 inputs: 64 bytes of ql and 32 of qh; inputs j, j+32, j+64, j+96 share byte j of qh. */
void oz_ggml_q6_k_block(const uint8_t *b, uint8_t *u, float *scale, float *shift)
{
    const uint8_t *ql = b, *qh = b + 128, *sc = b + 192;
    float d = f16_at(b + 208);
    for (int g = 0; g < 16; g++) {
        scale[g] = d * (float)(int8_t)sc[g];
        shift[g] = 32;
    }
    for (int h = 0; h < 2; h++, ql += 64, qh += 32, u += 128)
        for (int j = 0; j < 32; j++) {
            u[j] = (uint8_t)((ql[j] & 15) | (qh[j] & 3) << 4);
            u[j + 32] = (uint8_t)((ql[j + 32] & 15) | (qh[j] >> 2 & 3) << 4);
            u[j + 64] = (uint8_t)(ql[j] >> 4 | (qh[j] >> 4 & 3) << 4);
            u[j + 96] = (uint8_t)(ql[j + 32] >> 4 | (qh[j] >> 6) << 4);
        }
}
