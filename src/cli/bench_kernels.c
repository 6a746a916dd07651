/* bench_kernels.c: `ounce bench kernels`: every cell of every instruction-set level (or of the one OUNCE_ISA names), timed beside the
 * portable definition; --verify fails when a cell differs from it, --count prints how often each was called. */
#include "cli/bench_kernels.h"
#include "number/kernel/kernel.h"

#include <stdlib.h>

#define REPEATS 20

/* What a cell's comparison says, for people. */
static const char *verdict(const oz_cell_check *k)
{
    if (k->isa == OZ_ISA_PORTABLE) return "is the definition";
    return !k->ok ? "WRONG" : k->exact ? "same bits" : "agrees";
}

static oz_node *cell_node(oz_isa level, const oz_cell_check *k, oz_arena *a)
{
    oz_node *o = oz_node_map(a);
    bool bad = !o;
    bad = bad || oz_node_put(o, "level", oz_node_of_text(a, oz_isa_name(level)), a);
    bad = bad || oz_node_put(o, "cell", oz_node_of_text(a, k->name), a);
    bad = bad || oz_node_put(o, "from", oz_node_of_text(a, oz_isa_name(k->isa)), a);
    bad = bad || oz_node_put(o, "ok", oz_node_of_bool(a, k->ok), a);
    bad = bad || oz_node_put(o, "exact", oz_node_of_bool(a, k->exact), a);
    bad = bad || oz_node_put(o, "error", oz_node_of_real(a, k->error), a);
    bad = bad || oz_node_put(o, "calls", oz_node_of_int(a, (int64_t)k->calls), a);
    bad = bad || oz_node_put(o, "seconds", oz_node_of_real(a, k->seconds), a);
    bad = bad || oz_node_put(o, "portable_seconds", oz_node_of_real(a, k->portable_seconds), a);
    bad = bad || oz_node_put(o, "bytes", oz_node_of_real(a, k->bytes), a);
    bad = bad || oz_node_put(o, "operations", oz_node_of_real(a, k->ops), a);
    return bad ? NULL : o;
}

int cli_bench_kernels(cli *c, bool verify, bool count)
{
    static const char *const head[] = {"level", "cell", "from", "against portable", "us", "portable us", "GB/s", "GOP/s", "calls"};
    oz_arena *a = c->arena;
    oz_node *cells = oz_node_list(a), *absent = oz_node_list(a), *o = oz_node_map(a);
    cli_table *table = cli_table_new(a, "llllrrrrr", head);
    if (!cells || !absent || !o || !table) return cli_failed(c, OZ_ERR_NOMEM);
    const char *named = getenv("OUNCE_ISA");
    oz_isa only = OZ_ISA_COUNT;
    int wrong = 0;
    const char *first = "", *first_level = "";
    if (named && *named) {
        oz_status s = oz_isa_parse(named, &only);
        if (s) return cli_refused(c, oz_fail_in(s, "%s", "OUNCE_ISA"));
    }
    for (int l = 0; l < OZ_ISA_COUNT; l++) {
        if (only != OZ_ISA_COUNT && l != (int)only) continue;
        uint32_t isa = oz_isa_builds_on((oz_isa)l);
        if (isa & ~oz_cpu_isa()) {
            if (!c->json) printf("%s: not supported by this CPU\n", oz_isa_name((oz_isa)l));
            if (oz_node_push(absent, oz_node_of_text(a, oz_isa_name((oz_isa)l)), a)) return cli_failed(c, OZ_ERR_NOMEM);
            continue;
        }
        oz_cell_check check[OZ_CELL_COUNT];
        oz_status s = oz_check_cancel(&c->run);
        if (!s) s = oz_kernels_verify(isa, check, REPEATS);
        if (s) return cli_failed(c, s);
        for (int k = 0; k < OZ_CELL_COUNT; k++) {
            if (!check[k].ok && !wrong++) first = check[k].name, first_level = oz_isa_name((oz_isa)l);
            if (oz_node_push(cells, cell_node((oz_isa)l, &check[k], a), a)) return cli_failed(c, OZ_ERR_NOMEM);
            cli_table_cell(table, "%s", oz_isa_name((oz_isa)l));
            cli_table_cell(table, "%s", check[k].name);
            cli_table_cell(table, "%s", oz_isa_name(check[k].isa));
            cli_table_cell(table, "%s", verdict(&check[k]));
            cli_table_cell(table, "%.2f", check[k].seconds * 1e6);
            cli_table_cell(table, "%.2f", check[k].portable_seconds * 1e6);
            cli_table_cell(table, "%.1f", check[k].bytes / check[k].seconds * 1e-9);
            cli_table_cell(table, "%.1f", check[k].ops / check[k].seconds * 1e-9);
            if (count)
                cli_table_cell(table, "%llu", (unsigned long long)check[k].calls);
            else
                cli_table_cell(table, "%s", "");
        }
    }
    if (c->json) {
        if (oz_node_put(o, "kernels", cells, a) || oz_node_put(o, "not_supported", absent, a)) return cli_failed(c, OZ_ERR_NOMEM);
        int printed = cli_print_json(c, o);
        if (printed) return printed;
    } else if (cells->n)
        cli_table_print(table, stdout, 0);
    if (verify && wrong)
        return cli_failed(c, oz_fail(OZ_ERR_NUMERIC, "please report it with the output of `ounce machine`",
                                     "%d cells differ from the portable definition, the first is \"%s\" at level %s", wrong, first,
                                     first_level));
    return cli_done(c);
}
