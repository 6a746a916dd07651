/* number/format/list.h: every format family, sorted by name; the word is its file and its constant oz_format_WORD. */
#define OZ_FORMATS(X) X(float) X(ggml) X(int)
