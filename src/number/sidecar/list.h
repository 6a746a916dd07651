/* number/sidecar/list.h: every sidecar, sorted by name; the word is its file and its constant oz_sidecar_WORD. */
#define OZ_SIDECARS(X) X(cols)
