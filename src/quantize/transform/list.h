/* list.h: the transforms, sorted by name. */
#define OZ_TRANSFORMS(X) X(scale)
