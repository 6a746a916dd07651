/* main.c: `ounce SUBCOMMAND ...`: finds the subcommand, parses its options, runs it, and turns what happened into an exit status:
 * 0 done, 1 the work failed, 2 the command line or recipe is wrong, 3 done but something wants attention, 130 interrupted. */
#include "cli/cli.h"
#include "cli/list.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define DECLARE(name) extern const cli_command cli_##name;
CLI_COMMANDS(DECLARE)

const cli_command *const *cli_commands(int *n)
{
#define ADDRESS(name) &cli_##name,
    static const cli_command *const all[] = {CLI_COMMANDS(ADDRESS)};
    *n = (int)(sizeof all / sizeof *all);
    return all;
}

/* Set by the signal handler, which has no other way to say anything. */
static volatile int interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

static void catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND; /* a second one ends the program at once */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static const cli_command *find_command(const char *name)
{
    int n;
    const cli_command *const *all = cli_commands(&n);
    for (int i = 0; i < n; i++)
        if (!strcmp(all[i]->entry.name, name)) return all[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    enum { MOST = 128 };
    const char *names[MOST + 1];
    int n, k = 0;
    const cli_command *const *all = cli_commands(&n);
    for (; k < n && k < MOST; k++) names[k] = all[k]->entry.name;
    names[k] = NULL;
    int near = oz_nearest(name, names);
    fprintf(stderr, "ounce: there is no subcommand \"%s\"", name);
    if (near >= 0) fprintf(stderr, "; nearest is \"%s\"", names[near]);
    fprintf(stderr, "\n  `ounce help` lists them\n");
    return CLI_EXIT_USAGE;
}

#ifdef OUNCE_FAULTS
static void set_fault(const char *fault)
{
    static const struct {
        const char *kind;
        void (*set)(int64_t);
    } kinds[] = {{"alloc:", oz_fault_alloc}, {"write:", oz_fault_write}, {"read:", oz_fault_read}};
    int64_t nth;
    for (size_t i = 0; fault && i < sizeof kinds / sizeof *kinds; i++)
        if (!strncmp(fault, kinds[i].kind, strlen(kinds[i].kind)) && oz_parse_i64(fault + strlen(kinds[i].kind), 1, INT64_MAX, &nth))
            kinds[i].set(nth);
}
#endif

static int run_command(cli *c)
{
    uint32_t isa;
    oz_status s = c->command->takes & CLI_ANY_ISA ? OZ_OK : oz_isa_active(&isa);
    if (!s && c->command->takes & CLI_WORK) s = oz_pool_new(&c->run.pool, c->threads);
    if (s) return cli_failed(c, s);
#ifdef OUNCE_FAULTS
    set_fault(c->fault);
#endif
    int code = c->command->run(c);
#ifdef OUNCE_FAULTS
    oz_fault_alloc(0);
    oz_fault_write(0);
    oz_fault_read(0);
#endif
    return code;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--version")) {
        printf("ounce %s\n", OZ_VERSION);
        return fflush(stdout) ? CLI_EXIT_FAILED : CLI_EXIT_OK;
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) name = "help";
    if (!*name) {
        cli_help_commands(stderr);
        return CLI_EXIT_USAGE;
    }
    const cli_command *command = find_command(name);
    if (!command) return unknown_command(name);
    cli c = {.command = command, .layer1 = -1};
    bool help = false;
    int code;
    oz_status s = oz_arena_new(&c.arena, 0);
    if (!s) s = cli_parse(&c, argc - 2, argv + 2, &help);
    c.term = cli_term_new(c.quiet, c.verbose);
    if (!s && !c.term) s = OZ_ERR_NOMEM;
    c.run.cancel = &interrupted;
    c.run.progress = cli_term_progress;
    c.run.log = cli_term_log;
    c.run.user = c.term;
    catch_signals();
    if (s) {
        code = s == OZ_ERR_NOMEM ? cli_failed(&c, s) : cli_refused(&c, s);
    } else if (help) {
        cli_help_command(command, stdout);
        code = CLI_EXIT_OK;
    } else {
        code = run_command(&c);
    }
    cli_term_free(c.term);
    c.term = NULL;
    if ((fflush(stdout) || ferror(stdout)) && (code == CLI_EXIT_OK || code == CLI_EXIT_ATTENTION)) {
        fprintf(stderr, "ounce %s: cannot write the result: %s\n", name, strerror(errno));
        code = CLI_EXIT_FAILED;
    }
    oz_pool_free(c.run.pool);
    oz_arena_free(c.arena);
    return code;
}
