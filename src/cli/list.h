/* list.h: the subcommands, sorted.  Each word is the end of an identifier cli_X that src/cli/X.c defines (dashes are underscores). */
#ifndef OUNCE_CLI_LIST_H
#define OUNCE_CLI_LIST_H
#define CLI_COMMANDS(X)                                                                                                                    \
    X(bench)                                                                                                                               \
    X(compare)                                                                                                                             \
    X(convert)                                                                                                                             \
    X(eval)                                                                                                                                \
    X(help)                                                                                                                                \
    X(info)                                                                                                                                \
    X(machine)                                                                                                                             \
    X(quantize)                                                                                                                            \
    X(run)                                                                                                                                 \
    X(verify)
#endif
