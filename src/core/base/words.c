/* words.c: the nearest of some words, and the only parsers of numbers and sizes in Ounce.
 *
 * Distance: restricted Damerau-Levenshtein, weighted like a typist errs: a swap of neighbours costs 1, an inserted, missing or
 * wrong letter 2.  A candidate is near when the distance is at most a third of the longer word's cost of being rewritten. */
#include "ounce/base.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 63
#define SWAP    1
#define EDIT    2

static int distance(const char *a, size_t na, const char *b, size_t nb)
{
    int row[3][LONGEST + 1]; /* two rows back, one back, this one */
    for (size_t j = 0; j <= nb; j++) row[1][j] = EDIT * (int)j;
    for (size_t i = 1; i <= na; i++) {
        row[2][0] = EDIT * (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int d = row[1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : EDIT);
            if (row[1][j] + EDIT < d) d = row[1][j] + EDIT;
            if (row[2][j - 1] + EDIT < d) d = row[2][j - 1] + EDIT;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && row[0][j - 2] + SWAP < d) d = row[0][j - 2] + SWAP;
            row[2][j] = d;
        }
        memcpy(row[0], row[1], sizeof row[0]);
        memcpy(row[1], row[2], sizeof row[1]);
    }
    return row[1][nb];
}

static size_t lower(const char *word, char out[LONGEST + 1])
{
    size_t n = 0;
    for (; word[n] && n < LONGEST; n++) out[n] = (char)(word[n] == '-' ? '_' : tolower((unsigned char)word[n]));
    out[n] = 0;
    return n;
}

int oz_nearest(const char *word, const char *const *candidates)
{
    char a[LONGEST + 1], b[LONGEST + 1];
    size_t na = lower(word, a);
    int best = -1, best_cost = 0;
    for (int k = 0; candidates[k]; k++) {
        size_t nb = lower(candidates[k], b);
        int cost = distance(a, na, b, nb);
        size_t longer = na > nb ? na : nb;
        int limit = EDIT * (int)((longer + 2) / 3);
        /* A word begun and not finished ("activ" for "activations"), or one with something appended ("damp_percent" for "damp"),
         * is near too, but less than a typing error. */
        size_t shorter = na < nb ? na : nb;
        if (shorter >= 3 && !strncmp(a, b, shorter) && cost > limit) cost = limit;
        if (cost > limit) continue;
        if (best < 0 || cost < best_cost) best = k, best_cost = cost;
    }
    return best;
}

bool oz_parse_i64(const char *text, int64_t min, int64_t max, int64_t *out)
{
    if (!text) return false;
    const char *p = text + (*text == '-' || *text == '+');
    if (!*p || strspn(p, "0123456789") != strlen(p)) return false;
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno || value < min || value > max) return false;
    *out = value;
    return true;
}

/* strtod reads the decimal point of the program's locale; this thread is put into "C" around it. */
static bool parse_real(const char *text, const char **end, double *out)
{
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!c) return false;
    locale_t before = uselocale(c);
    char *stop;
    *out = strtod(text, &stop);
    uselocale(before);
    freelocale(c);
    *end = stop;
    return stop != text;
}

bool oz_parse_f64(const char *text, double min, double max, double *out)
{
    /* No leading space, no hexadecimal, no "inf" or "nan". */
    if (!text || !*text || strspn(text, "+-.0123456789eE") != strlen(text)) return false;
    const char *end;
    double value;
    if (!parse_real(text, &end, &value) || *end || !isfinite(value) || value < min || value > max) return false;
    *out = value;
    return true;
}

bool oz_parse_size(const char *text, uint64_t *bytes)
{
    static const struct {
        const char *unit;
        double scale;
    } units[] = {{"", 1},     {"B", 1},    {"K", 1e3},   {"KB", 1e3},     {"kB", 1e3},     {"M", 1e6},      {"MB", 1e6},    {"G", 1e9},
                 {"GB", 1e9}, {"T", 1e12}, {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
    if (!text) return false;
    size_t n = strspn(text, "0123456789.");
    char digits[32];
    if (!n || n >= sizeof digits) return false;
    memcpy(digits, text, n);
    digits[n] = 0;
    double value;
    if (!oz_parse_f64(digits, 0, 0x1p63, &value)) return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(text + n, units[i].unit)) {
            double total = value * units[i].scale;
            if (!(total < 0x1p63)) return false;
            *bytes = (uint64_t)(total + 0.5);
            return true;
        }
    return false;
}
