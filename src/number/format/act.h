/* number/format/act.h: integer activations as codes, for products on integers (act.c). */
#ifndef OUNCE_NUMBER_ACT_H
#define OUNCE_NUMBER_ACT_H
#include "ounce/format.h"

/* Inputs of one run of an activation format on rows of n inputs (token, tensor: n), and runs a row. */
int64_t oz_act_run(const oz_act *, int64_t n);
/* Centred codes q - zero, in [-255, 255], [rows x n], and one scale a row and run: value = scale * code.  Equal to oz_act_fake. */
void oz_act_codes(const oz_act *, oz_mat x, int16_t *code, float *scale, int64_t *saturated);
#endif
