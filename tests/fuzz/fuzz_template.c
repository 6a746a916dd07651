/* fuzz_template.c: a chat template of any bytes, rendered for a small chat. */
#include "fuzz.h"
#include <string.h>
#include "ounce/text.h"

static const char chat[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \" be kind \"}, {\"role\": \"user\", \"content\": \"h\\u00e9\\n\"},"
    "{\"role\": \"assistant\", \"content\": \"<think>a</think>b\", \"tool_calls\": [{\"function\": {\"name\": \"f\","
    "\"arguments\": {\"x\": [1, 2.5, null, true]}}}]}], \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"n\": 3}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    oz_arena *arena = NULL;
    oz_node *vars = NULL;
    oz_template *t = NULL;
    char *text = NULL;
    size_t n = 0;
    fuzz_begin(&data, &size);
    oz_status s = oz_arena_new(&arena, 0);
    if (!s) s = oz_json_parse(&vars, chat, sizeof chat - 1, "chat", arena);
    if (!s) s = oz_template_parse(&t, (const char *)data, size, "input");
    if (!s) s = oz_template_render(t, vars, &text, &n);
    if (!s && text[n] != 0) abort();
    oz_free(text);
    oz_template_free(t);
    oz_arena_free(arena);
    fuzz_end(s);
    return 0;
}
