/* machine_kernels.c: which kernel serves which pair of weight and activation formats here: asks the library about a linear of each. */
#include "cli/cli.h"
#include "ounce/linear.h"

/* Pairs that people use; shapes are multiples of every block size. */
static const struct {
    const char *weights, *inputs;
} pairs[] = {{"f32", NULL},
             {"f16", NULL},
             {"bf16", NULL},
             {"int8@row", NULL},
             {"int4@128", NULL},
             {"int4.asym@128", NULL},
             {"int3.asym@64", NULL},
             {"gguf.q4_0", NULL},
             {"gguf.q4_1", NULL},
             {"gguf.q8_0", NULL},
             {"gguf.q4_k", NULL},
             {"gguf.q6_k", NULL},
             {"int8@row", "int8@token"},
             {"int8@row", "int8.static@tensor"},
             {"int4@128", "int8@token"},
             {"int4.asym@128", "int8@token"},
             {"gguf.q8_0", "int8@token"}};

#define SIZE 512

static oz_status kernel_of(const char *weights, const char *inputs, char *out, size_t size, oz_arena *arena)
{
    oz_spec *spec, *act;
    oz_packed packed = {0};
    oz_linear linear = {.name = "machine", .out = SIZE, .in = SIZE, .w = &packed, .nw = 1};
    OZ_TRY(oz_spec_parse(&spec, weights, "machine", arena));
    OZ_TRY(oz_fmt_bind(&packed.fmt, spec, SIZE, SIZE, "machine"));
    if (inputs) {
        OZ_TRY(oz_spec_parse(&act, inputs, "machine", arena));
        OZ_TRY(oz_act_from_spec(&linear.act, act, "machine"));
    }
    /* a matrix of zeros: which kernel serves it is decided by the stored arrays */
    oz_array want[8], array[8];
    int n = 0;
    oz_status s = oz_packed_declare(&packed.fmt, want, &n);
    packed.a = array;
    for (int i = 0; !s && i < n; i++) {
        s = oz_array_new(&array[i], want[i].name, want[i].v.dtype, want[i].v.rank, want[i].v.shape);
        if (!s) packed.n++;
    }
    if (!s) oz_linear_kernel(&linear, 1, out, size);
    oz_linear_drop(&linear); /* owns nothing but the layout made above */
    for (int i = 0; i < packed.n; i++) oz_array_drop(&array[i]);
    return s;
}

oz_status cli_machine_kernels(cli *c, oz_node *list, cli_table *table)
{
    oz_arena *a = c->arena;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char kernel[160];
        const char *inputs = pairs[i].inputs;
        OZ_TRY(kernel_of(pairs[i].weights, inputs, kernel, sizeof kernel, a));
        cli_table_cell(table, "%s", pairs[i].weights);
        cli_table_cell(table, "%s", inputs ? inputs : "16 or 32 bits");
        cli_table_cell(table, "%s", kernel);
        oz_node *item = oz_node_map(a);
        if (!item) return OZ_ERR_NOMEM;
        OZ_TRY(oz_node_put(item, "weights", oz_node_of_text(a, pairs[i].weights), a));
        OZ_TRY(oz_node_put(item, "inputs", inputs ? oz_node_of_text(a, inputs) : oz_node_new(a, OZ_NODE_NULL), a));
        OZ_TRY(oz_node_put(item, "kernel", oz_node_of_text(a, kernel), a));
        OZ_TRY(oz_node_push(list, item, a));
    }
    return OZ_OK;
}
