/* Architectures: rows resolved from config.json and GGUF metadata, selectors, and the messages of what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "model_common.h"

static void rows_of(const char *kind, const char *name, int linears, int vectors)
{
    tiny t = tiny_open(kind, "plain");
    assert_string_equal(t.arch->name, name);
    assert_int_equal(t.arch->nlinear, linears);
    assert_int_equal(t.arch->nvector, vectors);
    for (int i = 0; i < t.arch->nlinear; i++) {
        const oz_linear_row *r = &t.arch->linear[i];
        assert_true(r->out > 0 && r->in > 0);
        assert_true(r->site_in >= 0 || i == t.arch->embed);
        assert_true(r->site_out >= 0 || !strcmp(r->role, "head") || !strcmp(r->role, "gate") || !strcmp(r->role, "router"));
    }
    tiny_close(&t);
}
static void families_resolve_to_rows(void **state)
{
    (void)state;
    rows_of("llama", "llama", 2 * 7 + 2, 2 * 2 + 1);
    rows_of("llama_bias", "llama", 2 * 7 + 1, 2 * 2 + 1); /* tied: the head is the embedding's row */
    rows_of("mistral", "mistral", 2 * 7 + 2, 2 * 2 + 1);
    rows_of("qwen2", "qwen2", 2 * 7 + 2, 2 * 2 + 1);
    rows_of("qwen3", "qwen3", 2 * 7 + 2, 2 * 4 + 1);
    rows_of("olmoe", "olmoe", 2 * (5 + 4 * 3) + 2, 2 * 4 + 1);
}

static void gguf_and_directory_agree(void **state)
{
    (void)state;
    static const char *const kinds[] = {"llama", "llama_bias", "qwen2", "qwen3", "olmoe"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        tiny a = tiny_open(kinds[k], "plain"), b = tiny_open_gguf(kinds[k], "plain");
        assert_int_equal(a.arch->nlinear, b.arch->nlinear);
        for (int i = 0; i < a.arch->nlinear; i++) {
            char name[128];
            assert_string_equal(a.arch->linear[i].name, b.arch->linear[i].name);
            assert_int_equal(oz_arch_gguf_name(a.arch, false, i, name, sizeof name), OZ_OK);
            assert_true(strncmp(b.arch->linear[i].src.tensor, name, strlen(name)) == 0);
        }
        assert_memory_equal(&a.arch->dims.layers, &b.arch->dims.layers, 8 * sizeof(int32_t));
        /* config.json built from the metadata resolves to the same dims */
        oz_arena *arena;
        oz_node *config;
        assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
        assert_int_equal(oz_arch_config(b.arch, b.ckpt, &config, arena), OZ_OK);
        assert_int_equal(oz_node_int(oz_node_get(config, "hidden_size"), 0), a.arch->dims.hidden);
        assert_int_equal(oz_node_int(oz_node_get(config, "num_key_value_heads"), 0), a.arch->dims.kv_heads);
        assert_true(oz_node_real(oz_node_get(config, "rms_norm_eps"), 0) == 1e-5);
        oz_arena_free(arena);
        tiny_close(&a);
        tiny_close(&b);
    }
}

static int count_of(const oz_arch *a, const char *where)
{
    uint8_t *chosen = calloc((size_t)a->nlinear, 1);
    assert_non_null(chosen);
    int n = oz_arch_select(a, where, chosen, "pass \"weights\"") ? -1 : 0;
    for (int i = 0; i < a->nlinear && n >= 0; i++) n += chosen[i];
    free(chosen);
    return n;
}
static void selectors(void **state)
{
    (void)state;
    tiny t = tiny_open("olmoe", "plain"), l = tiny_open("llama_bias", "plain");
    assert_int_equal(count_of(t.arch, "all"), 2 * (4 + 12));
    assert_int_equal(count_of(t.arch, "experts"), 2 * 12);
    assert_int_equal(count_of(t.arch, "attn"), 8);
    assert_int_equal(count_of(t.arch, "router"), 2);
    assert_int_equal(count_of(t.arch, "layer:1"), 16);
    assert_int_equal(count_of(t.arch, "layer:0-1"), 32);
    assert_int_equal(count_of(t.arch, "q, head"), 3);
    assert_int_equal(count_of(t.arch, "*.experts.3.down_proj"), 2);
    assert_int_equal(count_of(l.arch, "head"), 1); /* tied */
    assert_int_equal(count_of(l.arch, "donw"), -1);
    assert_string_equal(oz_message(), "pass \"weights\": \"donw\" is no role and matches no linear; nearest is down");
    assert_int_equal(count_of(l.arch, "experts"), -1);
    assert_string_equal(oz_message(), "pass \"weights\": \"experts\" selects no linear of this model (llama, 2 layers)");
    assert_int_equal(count_of(l.arch, "layer:3-1"), -1);
    assert_string_equal(oz_message(), "pass \"weights\": \"layer:3-1\" is not a range of layers");
    assert_int_equal(count_of(l.arch, " "), -1);
    assert_string_equal(oz_message(), "pass \"weights\": an empty selector");
    tiny_close(&t);
    tiny_close(&l);
}

/* The checkpoint of `kind` under an edited config. */
static void refused(const char *kind, const char *from, const char *to, const char *message)
{
    char *dir = tiny_dir(kind, "plain"), path[600];
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    char *text;
    size_t n;
    assert_int_equal(oz_read_file(path, 1 << 16, &text, &n), OZ_OK);
    char *at = strstr(text, from);
    assert_non_null(at);
    char *edited = oz_format_text("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_int_equal(oz_write_file(path, edited, strlen(edited)), OZ_OK);
    oz_free(edited);
    oz_free(text);
    oz_ckpt *ck;
    oz_arch *arch = NULL;
    assert_int_equal(oz_ckpt_open(&ck, dir), OZ_OK);
    assert_int_not_equal(oz_arch_open(&arch, ck), OZ_OK);
    assert_null(arch);
    if (!strstr(oz_message(), message)) fail_msg("message is \"%s\", expected \"%s\" in it", oz_message(), message);
    oz_ckpt_close(ck);
    assert_int_equal(oz_remove_tree(dir), OZ_OK);
    free(dir);
}
static void refusals_name_their_reason(void **state)
{
    (void)state;
    refused("llama", "\"model_type\": \"llama\"", "\"model_type\": \"mamba\"",
            "architecture \"mamba\" (model_type of config.json) is not known; nobody claims its 21 tensors: lm_head.weight, "
            "model.embed_tokens.weight");
    assert_true(strstr(oz_hint(), "known: llama, mistral, olmoe, qwen2, qwen3") != NULL);
    refused("qwen3", "\"model_type\": \"qwen3\"", "\"model_type\": \"qwen2\"", "tensor \"model.layers.0.self_attn.q_proj.bias\"");
    refused("qwen3", "\"model_type\": \"qwen3\"", "\"model_type\": \"llama\"",
            "4 tensors that architecture llama does not claim: model.layers.0.self_attn.k_norm.weight");
    refused("llama", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"mish\"", "config.json: hidden_act \"mish\" is not known");
    refused("llama", "\"hidden_size\": 32", "\"hidden_size\": 48",
            "tensor model.layers.0.self_attn.q_proj.weight is 64 x 32, expected 64 x 48");
    refused("llama", "\"vocab_size\": 128", "\"vocab_size\": \"many\"",
            "config.json: key \"vocab_size\" must be an integer from 1 to 67108864");
    refused("llama", "\"num_hidden_layers\": 2", "\"final_logit_softcapping\": 30.0, \"num_hidden_layers\": 2",
            "key \"final_logit_softcapping\" changes what llama computes");
    refused("llama", "\"num_hidden_layers\": 2", "\"rope_scaling\": {\"type\": \"ntk\", \"factor\": 2}, \"num_hidden_layers\": 2",
            "rope scaling \"ntk\" is not known");
    refused("llama", "\"num_hidden_layers\": 2", "\"rope_scaling\": {\"type\": \"linear\"}, \"num_hidden_layers\": 2",
            "rope scaling \"linear\" needs the key \"factor\"");
    refused("llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "model.layers.2.self_attn.q_proj.weight");
    refused("llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "4 attention heads cannot share 3 key heads of size 16");
    refused("llama", "\"num_hidden_layers\": 2", "\"quantization_config\": {\"quant_method\": \"gptq\"}, \"num_hidden_layers\": 2",
            "quant_method \"gptq\"");
    refused("olmoe", "\"norm_topk_prob\": false", "\"norm_topk_prob\": false, \"clip_qkv\": 8.0",
            "key \"clip_qkv\" changes what olmoe computes");
    refused("olmoe", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 5",
            "key \"num_experts_per_tok\" must be an integer from 1 to 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(families_resolve_to_rows), cmocka_unit_test(gguf_and_directory_agree),
                                       cmocka_unit_test(selectors), cmocka_unit_test(refusals_name_their_reason)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
