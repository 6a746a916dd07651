/* number/linear/linear_internal.h: what apply, the memo and the integer loop share. */
#ifndef OUNCE_LINEAR_INTERNAL_H
#define OUNCE_LINEAR_INTERNAL_H
#include "number/format/act.h"
#include "number/format/format_internal.h"
#include "number/kernel/kernel.h"
#include "ounce/linear.h"

/* A form of the site's input: f32 values, integer codes with one scale a token and run, or codes in the order of the kernels. */
typedef struct oz_form {
    uint64_t key;
    bool used;
    int64_t rows, cols, runs;
    float *x;
    int16_t *code;
    float *scale;
    oz_qact *q;                           /* lives until the next reset */
    size_t x_room, code_room, scale_room; /* elements */
} oz_form;
typedef enum { OZ_FORM_F32, OZ_FORM_CODES, OZ_FORM_KERNEL } oz_form_kind;
/* The form of this key, or an empty one to be filled (*fresh) that has room for x, or for code and scale (runs a token). */
oz_status oz_memo_form(oz_memo *, uint64_t key, int64_t rows, int64_t cols, oz_form_kind, int64_t runs, oz_form **, bool *fresh);

/* y[t][r - r0] for rows [r0, r1) and tokens [t0, t1): sums of integers a run, one f32 multiply-add a run (card cpu-inference, dot_int). */
oz_status oz_int_rows(const oz_packed *, const oz_act *, const oz_form *, int64_t r0, int64_t r1, int64_t t0, int64_t t1, oz_mat y,
                      oz_work *);
#endif
