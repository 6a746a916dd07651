/* convert.c: `ounce convert IN -o OUT`: between Hugging Face directories and GGUF files. */
#include "cli/cli.h"
#include "ounce/measure.h"

#include <string.h>

typedef struct convert_options {
    const char *to, *layout;
    int dtype;
} convert_options;

#define AT(f) offsetof(convert_options, f)
static const oz_option options[] = {
    {.name = "to", .type = OZ_TEXT, .at = AT(to), .unit = "KIND", .brief = "hf or gguf; default: gguf when OUT ends in .gguf, else hf"},
    {.name = "dtype",
     .type = OZ_ENUM,
     .at = AT(dtype),
     .choices = "keep|f16|bf16|f32",
     .brief = "type of matrices that are not quantized; keep: the source's (block types become f16 in a directory)"},
    {.name = "layout", .type = OZ_TEXT, .at = AT(layout), .unit = "NAME", .brief = "adds a kernel layout (not built yet)"},
    {0}};

/* Quantized linears of a directory Ounce wrote are carried as they are stored. */
typedef struct carried {
    oz_model *model;
    const oz_node *formats;
} carried;

static oz_status stored(void *ctx, int linear, const oz_linear **lin)
{
    carried *k = ctx;
    *lin = NULL;
    if (!k->model || !oz_node_get(oz_node_get(k->formats, oz_model_arch(k->model)->linear[linear].name), "format")) return OZ_OK;
    return oz_model_linear(k->model, linear, lin);
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static int run(cli *c)
{
    const convert_options *o = c->opt;
    static const char *const kinds[] = {"hf", "gguf", "gptq", "awq", "compressed-tensors", NULL}, *const dtypes[] = {NULL, "f16", "bf16",
                                                                                                                     "f32"};
    if (!c->out) return cli_refused(c, oz_fail(OZ_ERR_KEY, "add -o OUT", "convert %s: no output was given", c->arg[0]));
    if (o->layout)
        return cli_refused(
            c, oz_fail(OZ_ERR_UNSUPPORTED, "leave it out: layouts are made in memory", "--layout %s: not built yet", o->layout));
    const char *to = o->to ? o->to : ends_in(c->out, ".gguf") ? "gguf" : "hf";
    int kind = 0;
    while (kinds[kind] && strcmp(kinds[kind], to)) kind++;
    if (!kinds[kind]) {
        int near = oz_nearest(to, kinds);
        return cli_refused(c, near >= 0 ? oz_fail(OZ_ERR_KEY, NULL, "--to %s: no such kind; nearest is \"%s\"", to, kinds[near])
                                        : oz_fail(OZ_ERR_KEY, NULL, "--to %s: no such kind", to));
    }
    if (kind > 1) return cli_refused(c, oz_fail(OZ_ERR_UNSUPPORTED, "use --to hf or --to gguf", "--to %s: not built yet", to));
    oz_ckpt *ckpt = NULL;
    oz_arch *arch = NULL;
    oz_weights *weights = NULL;
    carried from = {0};
    uint64_t bytes = 0;
    oz_attentions attention = {.arena = c->arena};
    oz_status s = oz_ckpt_open(&ckpt, c->arg[0]);
    if (!s && oz_path_exists(c->out) && !c->force)
        s = oz_fail(OZ_ERR_POLICY, "give another -o, or --force to replace it", "%s: the output exists already", c->out);
    if (!s) s = oz_arch_open(&arch, ckpt);
    if (!s) s = oz_weights_new(&weights, ckpt, arch);
    const oz_node *record = s ? NULL : oz_node_get(oz_ckpt_config(ckpt), "quantization_config");
    if (record && strcmp(oz_node_text(oz_node_get(record, "quant_method"), ""), "ounce"))
        s = oz_fail(OZ_ERR_UNSUPPORTED, "convert it to GGUF with its own tools first", "%s: quant_method %s is not read yet", c->arg[0],
                    oz_node_text(oz_node_get(record, "quant_method"), "?"));
    if (!s && record) {
        oz_model_options mo = OZ_MODEL_OPTIONS_INIT;
        mo.stream = true;
        from.formats = oz_node_get(record, "tensors");
        s = oz_model_open(&from.model, c->arg[0], &mo, &c->run);
    }
    oz_export_source source = {stored, &from};
    oz_export_options eo = {
        .gguf = kind == 1, .dtype = dtypes[o->dtype], .record = kind == 0 ? record : NULL, .attention = &attention, .force = c->force};
    if (!s) s = oz_export(c->out, weights, &source, &eo, &bytes, &c->run);
    for (int i = 0; !s && i < attention.n; i++) cli_attend(c, attention.a[i].kind, attention.a[i].tensor, attention.a[i].message);
    int status;
    if (s) {
        status = cli_failed(c, s);
    } else if (c->json) {
        oz_arena *a = c->arena;
        oz_node *r = oz_node_map(a);
        bool bad = !r || oz_node_put(r, "output", oz_node_of_text(a, c->out), a) ||
                   oz_node_put(r, "bytes", oz_node_of_int(a, (int64_t)bytes), a) ||
                   oz_node_put(r, "attention", oz_node_copy(a, cli_attention(c)), a);
        status = cli_print_json(c, bad ? NULL : r);
        if (!status) status = cli_done(c);
    } else {
        cli_term_clear(c->term);
        printf("%s: %s of tensors\n", c->out, cli_bytes(c, bytes));
        status = cli_done(c);
    }
    oz_model_free(from.model);
    oz_weights_free(weights);
    oz_arch_free(arch);
    oz_ckpt_close(ckpt);
    return status;
}

const cli_command cli_convert = {.entry = {.kind = "command",
                                           .name = "convert",
                                           .brief = "between Hugging Face directories and GGUF files",
                                           .options = options,
                                           .options_size = sizeof(convert_options)},
                                 .usage = "IN",
                                 .min_args = 1,
                                 .max_args = 1,
                                 .takes = CLI_WORK | CLI_OUT | CLI_ACCEPT,
                                 .details = "Streams matrix by matrix. What the target cannot hold is an error that names the tensor. From "
                                            "GGUF a directory gets config.json and tokenizer.json built "
                                            "from the metadata; GGUF to GGUF keeps blocks and metadata.",
                                 .json = "output     path\nbytes      of all tensors\nattention  [{kind, tensor, message}]",
                                 .examples = "ounce convert model.gguf -o model\nounce convert model -o model.gguf --dtype f16",
                                 .run = run};
