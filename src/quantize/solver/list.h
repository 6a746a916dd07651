/* list.h: the solvers, sorted by name. */
#define OZ_SOLVERS(X) X(gptq) X(rtn)
