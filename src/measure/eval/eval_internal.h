/* Shared by the files of measure/eval. */
#ifndef OUNCE_EVAL_INTERNAL_H
#define OUNCE_EVAL_INTERNAL_H
#include "ounce/measure.h"

/* Appends a check; ok is value <= limit, or value >= limit with at_least. */
oz_status oz_add_check(oz_checks *, const char *name, double value, double limit, bool at_least, const char *message);

#endif
