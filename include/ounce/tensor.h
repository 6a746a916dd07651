/* ounce/tensor.h: element types, matrices in memory, dense linear algebra (the only door to BLAS and LAPACK), and the
 * plain data that several rooms read (oz_stats).  All f32 arrays are row-major. */
#ifndef OUNCE_TENSOR_H
#define OUNCE_TENSOR_H
#include "ounce/base.h"

typedef enum {
    OZ_F32, OZ_F16, OZ_BF16, OZ_F64, OZ_E4M3, OZ_E5M2, OZ_E8M0, OZ_U8, OZ_I8, OZ_U16, OZ_I16, OZ_U32, OZ_I32, OZ_U64, OZ_I64, OZ_BOOL,
    OZ_DTYPE_COUNT
} oz_dtype;
size_t oz_dtype_size(oz_dtype);
const char *oz_dtype_name(oz_dtype); /* "f32", "bf16", "e4m3", ... */

float oz_f16_to_f32(uint16_t);
uint16_t oz_f32_to_f16(float);  /* nearest even; overflow gives infinity */
float oz_bf16_to_f32(uint16_t);
uint16_t oz_f32_to_bf16(float); /* nearest even; NaN stays NaN */
float oz_e4m3_to_f32(uint8_t);  /* OCP FN variant: no infinity, 0x7f NaN, max 448 */
uint8_t oz_f32_to_e4m3(float);  /* nearest even, saturates at 448 */
float oz_e5m2_to_f32(uint8_t);
uint8_t oz_f32_to_e5m2(float);
float oz_e8m0_to_f32(uint8_t);
uint8_t oz_f32_to_e8m0(float);
/* n elements; src and dst may be unaligned.  Integer types convert by value.  Fast for f16 and bf16. */
void oz_to_f32(oz_dtype, const void *src, float *dst, int64_t n);
void oz_from_f32(oz_dtype, const float *src, void *dst, int64_t n); /* round to nearest even, saturate integers */
float oz_round_to(oz_dtype, float); /* through the type and back */

/* ---- buffers, views (the device seam), named arrays ---------------------------------------------------- */
typedef struct oz_buf { void *host; uint64_t dev; size_t bytes; struct oz_device *device; uint32_t align, refs; } oz_buf;
typedef struct oz_view { oz_buf *buf; size_t off; oz_dtype dtype; int rank; int64_t shape[4], stride[4]; } oz_view; /* strides in elements */
OZ_MUST oz_status oz_buf_new(oz_buf **, size_t bytes, uint32_t align); /* refs = 1, cleared */
oz_buf *oz_buf_keep(oz_buf *);
void oz_buf_drop(oz_buf *); /* frees at refs 0; NULL is fine */
enum { OZ_SCOPE_LINEAR, OZ_SCOPE_SITE, OZ_SCOPE_CLASS, OZ_SCOPE_GLOBAL }; /* who shares an array */
/* A named array: what formats, maps and sidecars store.  The buffer is owned by one reference. */
typedef struct oz_array { char name[32]; oz_view v; uint8_t scope; } oz_array;
OZ_MUST oz_status oz_array_new(oz_array *, const char *name, oz_dtype, int rank, const int64_t *shape); /* contiguous, cleared */
OZ_MUST oz_status oz_array_copy(oz_array *, const oz_array *); /* a new buffer */
void oz_array_drop(oz_array *);
void *oz_array_data(const oz_array *);
int64_t oz_array_count(const oz_array *); /* elements */
size_t oz_array_bytes(const oz_array *);

/* ---- matrices ---------------------------------------------------------------------------------------------- */
typedef struct oz_mat { float *p; int64_t rows, cols, ld; } oz_mat; /* element (i, j) at p[i*ld + j] */
static inline oz_mat oz_mat_of(float *p, int64_t rows, int64_t cols) { return (oz_mat){p, rows, cols, cols}; }
static inline oz_mat oz_mat_cols(oz_mat a, int64_t j0, int64_t n) { return (oz_mat){a.p + j0, a.rows, n, a.ld}; }
static inline oz_mat oz_mat_rows(oz_mat a, int64_t i0, int64_t m) { return (oz_mat){a.p + i0 * a.ld, m, a.cols, a.ld}; }

/* C = alpha op(A) op(B) + beta C; op is the transpose where ta / tb is non-zero.  Blocked over the pool in a way that does not
 * depend on the thread count; OpenBLAS below, one thread a call.  The only door to BLAS. */
OZ_MUST oz_status oz_gemm(oz_pool *, int ta, int tb, double alpha, oz_mat a, oz_mat b, double beta, oz_mat c);
/* H += alpha XᵀX, X f32 [tokens x n], H f64 [n x n], upper triangle only; f32 products a chunk of <= 2048 tokens, sums in f64. */
OZ_MUST oz_status oz_syrk_f64(oz_pool *, double alpha, oz_mat x, double *h, int64_t n);
void oz_mirror_upper(double *h, int64_t n); /* copies the upper triangle to the lower */
/* H = R Rᵀ, R upper triangular, and U = R^-1 (so H^-1 = UᵀU); H symmetric (upper triangle read).  r may equal h.
 * OZ_ERR_NUMERIC when H is not positive definite (card owq, B.4). */
OZ_MUST oz_status oz_chol_upper_inv(oz_pool *, const double *h, int64_t n, double *r, double *u);
OZ_MUST oz_status oz_qr_orthogonal(double *a, int64_t n, double *q); /* Q of A = QR with sign(diag R) > 0; A is destroyed */

/* ---- reference network operations, f32 (ounce/nn) : one definition of each ------------------------------------ */
/* y[t] = x[t] / rms(x[t]) * gain (+ offset to the gain: Gemma stores gain - 1). gain NULL: ones. x may be y. */
void oz_nn_rmsnorm(const float *x, const float *gain, float gain_offset, float eps, int64_t d, float *y);
void oz_nn_layernorm(const float *x, const float *gain, const float *bias, float eps, int64_t d, float *y);
/* Rotates one head in place: pairs (i, i + n/2) when neox, (2i, 2i+1) otherwise, over the first n entries; cs: n/2 cosines then n/2 sines. */
void oz_nn_rope(float *head, int64_t n, const float *cs, bool neox);
void oz_nn_softmax(float *x, int64_t n);
typedef enum { OZ_ACT_SILU, OZ_ACT_GELU_TANH, OZ_ACT_GELU, OZ_ACT_RELU, OZ_ACT_RELU2, OZ_ACT_QUICK_GELU } oz_act_fn;
void oz_nn_act(oz_act_fn, float *x, int64_t n);
void oz_nn_glu(oz_act_fn, const float *gate, const float *up, float *y, int64_t n); /* y = act(gate) * up */
double oz_nn_logsumexp(const float *x, int64_t n);

/* ---- statistics of a linear's inputs (made by quantize/calib) --------------------------------------------------- */
enum { OZ_WANT_MEAN = 1, OZ_WANT_H = 2, OZ_WANT_CHANNEL = 4, OZ_WANT_SAMPLE = 8, OZ_WANT_GRAD2 = 16, OZ_WANT_OUT_GRAD = 32 };
typedef struct oz_stats {
    int64_t n;       /* input features */
    double tokens;   /* how many tokens they were taken over (an expert: those routed to it) */
    uint64_t space;  /* hash of the map chain the numbers live in; 0: original */
    double *mean;    /* [n] E[x] */
    double *h;       /* [n x n] E[x xᵀ], full symmetric */
    float *absmax;   /* [n] max |x| */
    float *mean_abs; /* [n] E|x| */
    double *sum_sq;  /* [n] sum x^2 */
    float *max, *min;/* [n] */
    float *grad2;    /* [n] */
    const uint16_t *sample; /* [nsample x n] f16 rows, fixed stride over the tokens */
    int64_t nsample;
} oz_stats; /* any pointer may be NULL */
#endif
