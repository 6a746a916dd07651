/* range.c: the data-free sensitivity of FineQuant (card finequant, D): how much of the weights' range a format's groups must cover.
 *
 * energy     R(g) = Σ over parameter tiles of absmax² · (entries of the tile): proportional to the expected rounding error, step²/12 each.
 * max_range  the largest, over the columns of tiles, of Σ_rows absmax(tile) / Σ_rows absmax(row): in one row the largest group range is the
 *            row's own whatever the group, so the ratio is taken over all rows of a column of groups (Ounce's choice). */
#include <math.h>

#include "ounce/quantize.h"

static double absmax(oz_mat w)
{
    float most = 0;
    for (int64_t i = 0; i < w.rows; i++)
        for (int64_t j = 0; j < w.cols; j++) most = fmaxf(most, fabsf(w.p[i * w.ld + j]));
    return (double)most;
}

oz_status oz_sensitivity_range(oz_mat w, const oz_spec *spec, bool max_range, double *cost)
{
    oz_fmt fmt;
    OZ_TRY(oz_fmt_bind(&fmt, spec, w.rows, w.cols, "sensitivity: range"));
    int64_t r = fmt.shape.prm_r, c = fmt.shape.prm_c;
    double energy = 0, largest = 0, whole = 0;
    for (int64_t i = 0; i < w.rows; i++) whole += absmax(oz_mat_rows(w, i, 1));
    for (int64_t j = 0; j < w.cols; j += c) {
        int64_t cols = w.cols - j < c ? w.cols - j : c;
        double sum = 0;
        for (int64_t i = 0; i < w.rows; i += r) {
            int64_t rows = w.rows - i < r ? w.rows - i : r;
            double a = absmax(oz_mat_cols(oz_mat_rows(w, i, rows), j, cols));
            energy += a * a * (double)(rows * cols);
            sum += a * (double)rows;
        }
        largest = fmax(largest, sum);
    }
    *cost = max_range ? (whole > 0 ? largest / whole : 0) : energy;
    return OZ_OK;
}
