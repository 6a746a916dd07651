/* list.h: what plans and finishes sidecars, sorted by the sidecar's name. */
#define OZ_SIDECAR_HOOKS(X) X(cols)
