/* The verbs of a recipe that exist: one option table each over the structs of recipe.h (DESIGN section 5).
 * What a pass accepts is its verb's table plus those of its fit, solver, sidecar, transform or allocator. */
#include "quantize/recipe/recipe_internal.h"

#define Q(f) offsetof(oz_quantize_options, f)
static const oz_option quantize_options[] = {
    {.name = "where",
     .type = OZ_TREE,
     .at = Q(where),
     .brief = "which linears: roles, layer:A-B, names with globs; a list is a union (default all)"},
    {.name = "format",
     .type = OZ_TEXT,
     .at = Q(format),
     .init_text = "int4.asym@128",
     .brief = "format string of the weights, or 'allocated' by an earlier pass"},
    {.name = "fit", .type = OZ_TEXT, .at = Q(fit), .init_text = "minmax", .brief = "how scales and zeros are chosen (ounce help fits)"},
    {.name = "solver", .type = OZ_TEXT, .at = Q(solver), .init_text = "rtn", .brief = "how codes are chosen (ounce help solvers)"},
    {.name = "inputs",
     .type = OZ_ENUM,
     .at = Q(inputs),
     .choices = "quantized|reference|quantized+acts",
     .brief = "whose hidden states calibrate a block: those of the blocks quantized so far, or of the unquantized model"},
    {.name = "sequential",
     .type = OZ_FLAG,
     .at = Q(sequential),
     .brief = "run the block again after each stage (q,k,v; o; gate,up; down) is quantized"},
    {.name = "fit_skip", .type = OZ_TREE, .at = Q(fit_skip), .brief = "roles whose linears take plain min-max instead of the fit"},
    {0}};
#define T(f) offsetof(oz_transform_options, f)
static const oz_option transform_options[] = {
    {.name = "site", .type = OZ_TREE, .at = T(site), .brief = "one site or a list: attn.in, attn.out, mlp.in, down, ..."},
    {.name = "kind", .type = OZ_TEXT, .at = T(kind), .brief = "which transform (ounce help transforms)"},
    {.name = "quant", .type = OZ_TREE, .at = T(quant), .brief = "names of later passes whose formats the objective rounds with"},
    {.name = "online", .type = OZ_FLAG, .at = T(online), .brief = "run as a map at inference instead of folding"},
    {.name = "learned", .type = OZ_FLAG, .at = T(learned), .brief = "the choice is a start that a later tune pass trains"},
    {0}};
#define A(f) offsetof(oz_allocate_options, f)
static const oz_option allocate_options[] = {
    {.name = "where", .type = OZ_TREE, .at = A(where), .brief = "which linears are decided for (default all)"},
    {.name = "candidates", .type = OZ_TREE, .at = A(candidates), .brief = "format strings from cheapest to dearest"},
    {.name = "kind", .type = OZ_TEXT, .at = A(kind), .brief = "which allocator (ounce help allocators)"},
    {.name = "sensitivity", .type = OZ_TEXT, .at = A(sensitivity), .init_text = "range", .brief = "what a candidate costs a unit"},
    {.name = "unit", .type = OZ_ENUM, .at = A(unit), .choices = "linear|model", .brief = "what one decision covers"},
    {.name = "statistic",
     .type = OZ_ENUM,
     .at = A(statistic),
     .choices = "energy|max_range",
     .brief = "of the range measure: sum of absmax^2 times group length, or the largest group range"},
    {0}};
#define C(f) offsetof(oz_activations_options, f)
static const oz_option activations_options[] = {
    {.name = "where", .type = OZ_TREE, .at = C(where), .brief = "linears whose input is quantized (default all)"},
    {.name = "format",
     .type = OZ_TEXT,
     .at = C(format),
     .init_text = "none",
     .brief = "activation format: int8@token, int8.static@tensor, none"},
    {.name = "clip",
     .type = OZ_REAL,
     .at = C(clip),
     .init = 1,
     .min = 0.01,
     .max = 1,
     .brief = "factor on the range before the step is computed (c)"},
    {0}};
#define K(f) offsetof(oz_kv_options, f)
static const oz_option kv_options[] = {
    {.name = "format", .type = OZ_TEXT, .at = K(format), .init_text = "none", .brief = "format of keys and values; none keeps f16"},
    {.name = "k", .type = OZ_TEXT, .at = K(k), .brief = "format of keys where it differs"},
    {.name = "v", .type = OZ_TEXT, .at = K(v), .brief = "format of values where it differs"},
    {.name = "clip",
     .type = OZ_REAL,
     .at = K(clip),
     .init = 1,
     .min = 0.01,
     .max = 1,
     .brief = "factor on the range before the step is computed (c)"},
    {0}};

static const oz_entry verb_transform = {.kind = "verb",
                                        .name = "transform",
                                        .brief = "make tensors easier to quantize without changing the function",
                                        .options = transform_options,
                                        .options_size = sizeof(oz_transform_options)};
static const oz_entry verb_allocate = {.kind = "verb",
                                       .name = "allocate",
                                       .brief = "decide a format for every linear",
                                       .options = allocate_options,
                                       .options_size = sizeof(oz_allocate_options)};
static const oz_entry verb_quantize = {.kind = "verb",
                                       .name = "quantize",
                                       .brief = "choose codes for weights",
                                       .options = quantize_options,
                                       .options_size = sizeof(oz_quantize_options)};
static const oz_entry verb_activations = {.kind = "verb",
                                          .name = "activations",
                                          .brief = "quantize the inputs of linears while the model runs",
                                          .options = activations_options,
                                          .options_size = sizeof(oz_activations_options)};
static const oz_entry verb_kv = {
    .kind = "verb", .name = "kv", .brief = "how keys and values are stored", .options = kv_options, .options_size = sizeof(oz_kv_options)};
/* in the order of enum oz_verb */
static const oz_entry *const verbs[] = {&verb_transform, &verb_allocate, &verb_quantize, &verb_activations, &verb_kv};

const oz_entry *const *oz_verbs(int *n)
{
    *n = (int)(sizeof verbs / sizeof *verbs);
    return verbs;
}
