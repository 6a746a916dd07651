/* list.h: the allocators, sorted by name. */
#define OZ_ALLOCATORS(X) X(threshold)
