/* bench.c: `ounce bench MODEL`: prompt and generation speed, medians and spread, against the measured bandwidth. */
#include "cli/bench_kernels.h"
#include "ounce/model.h"

#include <stdlib.h>
#include <string.h>

typedef struct bench_options {
    int prompt, generate, repeat, depth;
    bool verify, count;
} bench_options;

#define AT(f) offsetof(bench_options, f)
static const oz_option options[] = {
    {.name = "prompt",
     .type = OZ_INT,
     .at = AT(prompt),
     .init = 512,
     .min = 1,
     .max = 1e6,
     .word = "p",
     .unit = "tokens",
     .brief = "length of the prompt"},
    {.name = "generate",
     .type = OZ_INT,
     .at = AT(generate),
     .init = 64,
     .min = 1,
     .max = 1e6,
     .word = "n",
     .unit = "tokens",
     .brief = "tokens generated one at a time"},
    {.name = "repeat",
     .type = OZ_INT,
     .at = AT(repeat),
     .init = 5,
     .min = 1,
     .max = 1000,
     .word = "r",
     .unit = "times",
     .brief = "repetitions, after one that is not counted"},
    {.name = "depth",
     .type = OZ_INT,
     .at = AT(depth),
     .init = 0,
     .min = 0,
     .max = 1e6,
     .word = "d",
     .unit = "tokens",
     .brief = "tokens in the session before either is timed"},
    {.name = "verify", .type = OZ_FLAG, .at = AT(verify), .brief = "kernels: fail when one differs from the portable definition"},
    {.name = "count", .type = OZ_FLAG, .at = AT(count), .brief = "kernels: print how often each was called"},
    {0}};

enum { MOST = 1000 };
typedef struct times {
    double value[MOST];
    int n;
} times;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(times *t)
{
    qsort(t->value, (size_t)t->n, sizeof *t->value, by_value);
    return t->n & 1 ? t->value[t->n / 2] : 0.5 * (t->value[t->n / 2 - 1] + t->value[t->n / 2]);
}

/* Appends n tokens in one step. */
static oz_status feed(cli *c, oz_model *m, oz_session *session, const int32_t *ids, int64_t n, float *logits)
{
    int64_t start[2] = {0, n}, want = n - 1;
    oz_step step = {&session, 1, start, ids, &want, 1};
    return oz_model_step(m, &step, oz_mat_of(logits, 1, oz_model_arch(m)->dims.vocab), &c->run);
}

static oz_status once(cli *c, oz_model *m, const int32_t *ids, float *logits, double *prompt, double *generate)
{
    const bench_options *o = c->opt;
    oz_session *session = NULL;
    OZ_TRY(oz_session_new(&session, m, o->depth + o->prompt + o->generate + 1));
    oz_status s = o->depth ? feed(c, m, session, ids, o->depth, logits) : OZ_OK;
    double t0 = oz_seconds();
    if (!s) s = feed(c, m, session, ids, o->prompt, logits);
    double t1 = oz_seconds();
    if (!s) s = oz_session_truncate(session, o->depth ? o->depth : 1);
    double t2 = oz_seconds();
    for (int i = 0; !s && i < o->generate; i++) s = feed(c, m, session, ids + i % o->prompt, 1, logits);
    double t3 = oz_seconds();
    *prompt = o->prompt / (t1 - t0), *generate = o->generate / (t3 - t2);
    oz_session_free(session);
    return s;
}

/* Bytes one token reads: all linears but the embedding (one row), vectors; experts: those a token uses. */
static oz_status bytes_per_token(oz_model *m, double *bytes)
{
    const oz_arch *arch = oz_model_arch(m);
    *bytes = 0;
    for (int i = 0; i < arch->nlinear; i++) {
        const oz_linear *lin = NULL;
        if (i == arch->embed && arch->head != arch->embed) continue;
        OZ_TRY(oz_model_linear(m, i, &lin));
        double share = arch->linear[i].expert >= 0 && arch->dims.experts > 0 ? (double)arch->dims.experts_used / arch->dims.experts : 1;
        *bytes += share * oz_linear_bits(lin) / 8;
    }
    for (int i = 0; i < arch->nvector; i++) *bytes += 4.0 * (double)arch->vector[i].n;
    return OZ_OK;
}

static bool put(oz_node *map, const char *key, oz_node *v, oz_arena *a) { return v && oz_node_put(map, key, v, a) == OZ_OK; }

static oz_node *spread(oz_arena *a, times *t)
{
    oz_node *n = oz_node_map(a);
    bool good = n && put(n, "median", oz_node_of_real(a, median(t)), a) && put(n, "min", oz_node_of_real(a, t->value[0]), a) &&
                put(n, "max", oz_node_of_real(a, t->value[t->n - 1]), a);
    return good ? n : NULL;
}

static int report(cli *c, times *prompt, times *generate, double bytes, const oz_peaks *peaks)
{
    const bench_options *o = c->opt;
    oz_arena *a = c->arena;
    double g = median(generate), p = median(prompt), fraction = peaks->read_gbs > 0 ? bytes * g / (peaks->read_gbs * 1e9) : 0;
    oz_machine machine;
    oz_machine_read(&machine);
    cli_term_clear(c->term);
    if (!c->json) {
        printf("%-10s %6d tokens   %10.2f tok/s   (%.2f to %.2f, %d runs)\n", "prompt", o->prompt, p, prompt->value[0],
               prompt->value[prompt->n - 1], prompt->n);
        printf("%-10s %6d tokens   %10.2f tok/s   (%.2f to %.2f), depth %d\n", "generate", o->generate, g, generate->value[0],
               generate->value[generate->n - 1], o->depth);
        printf("reads %s a token: %.2f GB/s, %.0f %% of the %.1f GB/s measured here with %d threads\n", cli_bytes(c, (uint64_t)bytes),
               bytes * g / 1e9, 100 * fraction, peaks->read_gbs, oz_pool_threads(c->run.pool));
        return cli_done(c);
    }
    oz_node *root = oz_node_map(a), *np = oz_node_map(a), *ng = oz_node_map(a), *nm = oz_node_map(a);
    bool good = root && np && ng && nm && put(np, "tokens", oz_node_of_int(a, o->prompt), a) && put(np, "tok_s", spread(a, prompt), a);
    good = good && put(ng, "tokens", oz_node_of_int(a, o->generate), a) && put(ng, "tok_s", spread(a, generate), a) &&
           put(ng, "depth", oz_node_of_int(a, o->depth), a);
    good =
        good && put(ng, "bytes_per_token", oz_node_of_real(a, bytes), a) && put(ng, "bandwidth_fraction", oz_node_of_real(a, fraction), a);
    good = good && put(nm, "cpu", oz_node_of_text(a, machine.cpu), a) &&
           put(nm, "threads", oz_node_of_int(a, oz_pool_threads(c->run.pool)), a);
    good = good && put(nm, "read_gbs", oz_node_of_real(a, peaks->read_gbs), a) &&
           put(nm, "f32_gflops", oz_node_of_real(a, peaks->f32_gflops), a);
    good = good && put(root, "prompt", np, a) && put(root, "generate", ng, a) && put(root, "machine", nm, a);
    return cli_print_json(c, good ? root : NULL);
}

static int run(cli *c)
{
    const bench_options *o = c->opt;
    uint32_t isa;
    if (!strcmp(c->arg[0], "kernels")) return cli_bench_kernels(c, o->verify, o->count);
    if (oz_isa_active(&isa)) return cli_failed(c, OZ_ERR_UNSUPPORTED);
    oz_model *m = NULL;
    oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
    oz_peaks peaks = {0};
    double bytes = 0;
    times *t = oz_zalloc(2, sizeof *t);
    int32_t *ids = NULL;
    float *logits = NULL;
    oz_status s = t ? oz_model_open(&m, c->arg[0], &mo, &c->run) : OZ_ERR_NOMEM;
    int32_t vocab = s ? 1 : oz_model_arch(m)->dims.vocab;
    int64_t room = o->prompt > o->depth ? o->prompt : o->depth;
    if (!s) s = (ids = oz_alloc((size_t)room, sizeof *ids)) && (logits = oz_alloc((size_t)vocab, sizeof *logits)) ? OZ_OK : OZ_ERR_NOMEM;
    for (int64_t i = 0; !s && i < room; i++) ids[i] = (int32_t)(oz_rng_u64((oz_rng){c->seed, 1}, (uint64_t)i) % (uint64_t)vocab);
    for (int r = 0; !s && r <= o->repeat; r++) {
        double prompt = 0, generate = 0;
        oz_progress(&c->run, "timing", r, o->repeat + 1);
        s = oz_check_cancel(&c->run);
        if (!s) s = once(c, m, ids, logits, &prompt, &generate);
        if (!s && r) t[0].value[t[0].n++] = prompt, t[1].value[t[1].n++] = generate; /* the first run warms caches and layouts */
    }
    if (!s) s = bytes_per_token(m, &bytes);
    if (!s) s = oz_machine_peaks(c->run.pool, &peaks);
    int status = s ? cli_failed(c, s) : report(c, &t[0], &t[1], bytes, &peaks);
    oz_free(ids);
    oz_free(logits);
    oz_free(t);
    oz_model_free(m);
    return status;
}

const cli_command cli_bench = {
    .entry = {.kind = "command",
              .name = "bench",
              .brief = "prompt and generation speed",
              .options = options,
              .options_size = sizeof(bench_options)},
    .usage = "MODEL | kernels",
    .min_args = 1,
    .max_args = 1,
    .takes = CLI_WORK | CLI_ANY_ISA,
    .details = "Times a prompt of random tokens in one step, then tokens one at a time, as other engines' "
               "benchmarks do. Medians; the machine may be shared.\n\n"
               "`ounce bench kernels` times every kernel of every instruction-set level of this CPU (OUNCE_ISA=LEVEL: of that "
               "one) on one tile of 16 rows and compares it with the portable definition: integers and codes must be the same "
               "bits. A directory of that name is ./kernels.",
    .json = "prompt    {tokens, tok_s {median, min, max}}\n"
            "generate  {tokens, tok_s, depth, bytes_per_token, bandwidth_fraction}\n"
            "machine   {cpu, threads, read_gbs, f32_gflops}\n"
            "kernels   [{level, cell, from, ok, exact, error, calls, seconds, portable_seconds, bytes, operations}]: bench kernels\n"
            "not_supported  levels this CPU lacks: bench kernels",
    .examples = "ounce bench model-4bit\nounce bench model.gguf -p 128 -n 32 -r 3 --json\nounce bench kernels --verify --count",
    .run = run};
