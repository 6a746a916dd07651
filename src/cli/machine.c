/* machine.c: `ounce machine`: what this machine is and what it can do at most.  A small subcommand: start a new one from this file. */
#include "cli/cli.h"

typedef struct machine_options {
    bool no_peaks;
} machine_options;

#define AT(f) offsetof(machine_options, f)
static const oz_option options[] = {
    {.name = "no_peaks", .type = OZ_FLAG, .at = AT(no_peaks), .brief = "do not measure bandwidth and operations (saves about a second)"},
    {0}};

static oz_node *levels_node(uint32_t bits, oz_arena *a)
{
    oz_node *list = oz_node_list(a);
    for (int i = 0; list && i < OZ_ISA_COUNT; i++)
        if ((bits & OZ_ISA_BIT(i)) && oz_node_push(list, oz_node_of_text(a, oz_isa_name((oz_isa)i)), a)) return NULL;
    return list;
}

static int print_json(cli *c, const oz_machine *m, uint32_t active, const oz_peaks *p, bool measured, oz_node *kernels)
{
    oz_arena *a = c->arena;
    oz_node *o = oz_node_map(a), *caches = oz_node_map(a), *peaks = oz_node_map(a);
    bool bad = !o || !caches || !peaks;
    bad = bad || oz_node_put(caches, "l1d_bytes", oz_node_of_int(a, (int64_t)m->l1d), a);
    bad = bad || oz_node_put(caches, "l2_bytes", oz_node_of_int(a, (int64_t)m->l2), a);
    bad = bad || oz_node_put(caches, "l3_bytes", oz_node_of_int(a, (int64_t)m->l3), a);
    bad = bad || oz_node_put(peaks, "read_gbs", oz_node_of_real(a, p->read_gbs), a);
    bad = bad || oz_node_put(peaks, "f32_gflops", oz_node_of_real(a, p->f32_gflops), a);
    bad = bad || oz_node_put(peaks, "i8_gops", oz_node_of_real(a, p->i8_gops), a);
    bad = bad || oz_node_put(peaks, "bf16_gflops", oz_node_of_real(a, p->bf16_gflops), a);
    bad = bad || oz_node_put(o, "cpu", oz_node_of_text(a, m->cpu), a);
    bad = bad || oz_node_put(o, "cores", oz_node_of_int(a, m->cores), a);
    bad = bad || oz_node_put(o, "threads", oz_node_of_int(a, m->threads), a);
    bad = bad || oz_node_put(o, "memory_bytes", oz_node_of_int(a, (int64_t)m->memory), a);
    bad = bad || oz_node_put(o, "caches", caches, a);
    bad = bad || oz_node_put(o, "isa", levels_node(m->isa, a), a);
    bad = bad || oz_node_put(o, "isa_active", levels_node(active, a), a);
    bad = bad || oz_node_put(o, "peaks", measured ? peaks : oz_node_new(a, OZ_NODE_NULL), a);
    bad = bad || oz_node_put(o, "kernels", kernels, a);
    return cli_print_json(c, bad ? NULL : o);
}

static void print_levels(const char *name, uint32_t bits)
{
    printf("%-10s", name);
    for (int i = 0; i < OZ_ISA_COUNT; i++)
        if (bits & OZ_ISA_BIT(i)) printf(" %s", oz_isa_name((oz_isa)i));
    printf("\n");
}

static void print_peak(const char *name, double value, const char *unit)
{
    if (value > 0)
        printf("%-10s %.4g %s\n", name, value, unit);
    else
        printf("%-10s no instruction for it\n", name);
}

static int run(cli *c)
{
    const machine_options *opt = c->opt;
    oz_machine m;
    oz_peaks peaks = {0};
    uint32_t active;
    oz_machine_read(&m);
    oz_status s = oz_isa_active(&active);
    if (!s && !opt->no_peaks) s = oz_machine_peaks(c->run.pool, &peaks);
    static const char *const head[] = {"weights", "inputs", "kernel"};
    oz_node *kernels = oz_node_list(c->arena);
    cli_table *table = cli_table_new(c->arena, "lll", head);
    if (!s && (!kernels || !table)) s = OZ_ERR_NOMEM;
    if (!s) s = cli_machine_kernels(c, kernels, table);
    if (s) return cli_failed(c, s);
    if (c->json) return print_json(c, &m, active, &peaks, !opt->no_peaks, kernels);
    printf("%-10s %s\n", "cpu", m.cpu);
    printf("%-10s %d, %d threads\n", "cores", m.cores, m.threads);
    printf("%-10s %s\n", "memory", cli_bytes(c, m.memory));
    printf("%-10s L1d %s, L2 %s, L3 %s\n", "caches", cli_bytes(c, m.l1d), cli_bytes(c, m.l2), cli_bytes(c, m.l3));
    print_levels("levels", m.isa);
    if (active != m.isa) print_levels("in use", active);
    if (!opt->no_peaks) {
        printf("\nmeasured with %d threads\n", oz_pool_threads(c->run.pool));
        print_peak("read", peaks.read_gbs, "GB/s");
        print_peak("f32", peaks.f32_gflops, "GFLOP/s");
        print_peak("i8", peaks.i8_gops, "GOP/s");
        print_peak("bf16", peaks.bf16_gflops, "GFLOP/s");
    }
    printf("\n");
    cli_table_print(table, stdout, 0);
    return cli_done(c);
}

const cli_command cli_machine = {
    .entry = {.kind = "command",
              .name = "machine",
              .brief = "CPU levels, caches, measured peaks, which kernel serves which format",
              .options = options,
              .options_size = sizeof(machine_options)},
    .usage = "",
    .takes = CLI_WORK,
    .details = "A level is a set of instructions with kernels of its own; OUNCE_ISA=LEVEL allows that level and those it builds on. "
               "Peaks are measured with all threads (or --threads); a multiply-add counts as two operations.",
    .json = "cpu           name of the processor\n"
            "cores         physical cores\n"
            "threads       threads the system offers\n"
            "memory_bytes  of the machine or its cgroup, the smaller\n"
            "caches        {l1d_bytes, l2_bytes, l3_bytes}; 0 when unknown\n"
            "isa           levels this CPU supports\n"
            "isa_active    levels in use under OUNCE_ISA\n"
            "peaks         {read_gbs, f32_gflops, i8_gops, bf16_gflops}, 0 where there is no instruction; null with --no-peaks\n"
            "kernels       [{weights, inputs, kernel}]; inputs null: not quantized",
    .examples = "ounce machine\nounce machine --json --threads 1",
    .run = run};
