/* bench_kernels.h: `ounce bench kernels [--verify] [--count]`, called by bench.c. */
#ifndef OUNCE_CLI_BENCH_KERNELS_H
#define OUNCE_CLI_BENCH_KERNELS_H
#include "cli/cli.h"

int cli_bench_kernels(cli *, bool verify, bool count);
#endif
