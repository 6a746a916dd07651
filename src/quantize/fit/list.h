/* quantize/fit/list.h: every fit, sorted by name; the word is its file and its constant oz_fit_WORD. */
#define OZ_FITS(X) X(act_clip) X(lp) X(minmax)
