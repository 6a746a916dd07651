/* core/io/hf_writer.c: the weights of a Hugging Face folder: model.safetensors, or shards and their index.
 *
 * Tensors are dealt to shards in declared order: a shard is closed when the next tensor would make it larger than the limit
 * (a tensor larger than the limit has a shard to itself).  Every shard states format: pt, without which transformers
 * refuses a file. */
#include "core/io/writer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    int shard;
} place;
struct oz_hf_writer {
    char *dir;
    oz_arena *arena;
    oz_writer **shard;
    int nshard, n;
    place *order;  /* as declared */
    place *sorted; /* by name */
    uint64_t total;
};

static int by_name(const void *a, const void *b) { return strcmp(((const place *)a)->name, ((const place *)b)->name); }

static const char *shard_name(const oz_hf_writer *h, int i)
{
    if (h->nshard == 1) return "model.safetensors";
    return oz_arena_printf(h->arena, "model-%05d-of-%05d.safetensors", i + 1, h->nshard);
}

/* Which shard each tensor goes to. */
static oz_status deal(oz_hf_writer *h, const oz_out_tensor *t, uint64_t limit)
{
    uint64_t room = 0;
    int k = 0;
    for (int i = 0; i < h->n; i++) {
        if (!t[i].name) return oz_fail(OZ_ERR_KEY, NULL, "%s: tensor %d has no name", h->dir, i);
        if (limit && room > 0 && (room >= limit || t[i].bytes > limit - room)) {
            k++;
            room = 0;
        }
        room += t[i].bytes;
        h->total += t[i].bytes;
        h->order[i] = (place){oz_arena_strdup(h->arena, t[i].name), k};
        if (!h->order[i].name) return OZ_ERR_NOMEM;
        h->sorted[i] = h->order[i];
    }
    h->nshard = k + 1;
    if (h->nshard > 4096)
        return oz_fail(OZ_ERR_RANGE, "raise the size of a shard", "%s: %d shards of %llu bytes, at most 4096 are written", h->dir,
                       h->nshard, (unsigned long long)limit);
    qsort(h->sorted, (size_t)h->n, sizeof *h->sorted, by_name);
    for (int i = 1; i < h->n; i++)
        if (!strcmp(h->sorted[i - 1].name, h->sorted[i].name))
            return oz_fail(OZ_ERR_KEY, NULL, "%s: tensor \"%s\" is declared twice", h->dir, h->sorted[i].name);
    return OZ_OK;
}

static oz_status begin_shards(oz_hf_writer *h, const oz_out_tensor *t, const oz_out_meta *meta, int nmeta, uint32_t align)
{
    bool has_format = false;
    oz_out_meta *all = oz_arena_zalloc(h->arena, ((size_t)nmeta + 1) * sizeof *all);
    h->shard = oz_zalloc((size_t)h->nshard, sizeof *h->shard);
    if (!all || !h->shard) return OZ_ERR_NOMEM;
    for (int i = 0; i < nmeta; i++) {
        all[i] = meta[i];
        has_format = has_format || !strcmp(meta[i].key, "format");
    }
    if (!has_format) all[nmeta++] = (oz_out_meta){.key = "format", .kind = OZ_GGUF_STRING, .count = 2, .data = "pt"};
    for (int k = 0, first = 0; k < h->nshard; k++) {
        int last = first;
        while (last < h->n && h->order[last].shard == k) last++;
        const char *name = shard_name(h, k);
        char *path = name ? oz_path_join(h->dir, name) : NULL;
        oz_status status = path ? oz_safetensors_begin(&h->shard[k], path, t + first, last - first, all, nmeta, align) : OZ_ERR_NOMEM;
        oz_free(path);
        OZ_TRY(status);
        first = last;
    }
    return OZ_OK;
}

oz_status oz_hf_begin(oz_hf_writer **out, const char *dir, const oz_out_tensor *t, int n, const oz_out_meta *meta, int nmeta,
                      uint64_t shard_bytes, uint32_t align)
{
    *out = NULL;
    oz_hf_writer *h = oz_zalloc(1, sizeof *h);
    if (!h) return OZ_ERR_NOMEM;
    h->n = n;
    oz_status status = oz_arena_new(&h->arena, 0);
    if (!status) {
        h->dir = oz_strdup(dir);
        h->order = oz_zalloc((size_t)n + 1, sizeof *h->order);
        h->sorted = oz_zalloc((size_t)n + 1, sizeof *h->sorted);
        if (!h->dir || !h->order || !h->sorted) status = OZ_ERR_NOMEM;
    }
    if (!status) status = deal(h, t, shard_bytes);
    if (!status) status = begin_shards(h, t, meta, nmeta, align);
    if (status)
        oz_hf_abandon(h);
    else
        *out = h;
    return status;
}

static oz_writer *writer_of(oz_hf_writer *h, const char *tensor)
{
    place key = {tensor, 0};
    const place *p = h->n ? bsearch(&key, h->sorted, (size_t)h->n, sizeof key, by_name) : NULL;
    if (!p) (void)oz_fail(OZ_ERR_KEY, NULL, "%s: tensor \"%s\" was not declared", h->dir, tensor);
    return p ? h->shard[p->shard] : NULL;
}

oz_status oz_hf_put(oz_hf_writer *h, const char *tensor, const void *data, size_t bytes)
{
    oz_writer *w = writer_of(h, tensor);
    return w ? oz_writer_put(w, tensor, data, bytes) : OZ_ERR_KEY;
}

oz_status oz_hf_put_part(oz_hf_writer *h, const char *tensor, size_t offset, const void *data, size_t bytes)
{
    oz_writer *w = writer_of(h, tensor);
    return w ? oz_writer_put_part(w, tensor, offset, data, bytes) : OZ_ERR_KEY;
}

static oz_status write_index(oz_hf_writer *h)
{
    oz_grow g = {0};
    char s[96];
    snprintf(s, sizeof s, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {", (unsigned long long)h->total);
    oz_grow_text(&g, s);
    for (int i = 0; i < h->n; i++) {
        oz_grow_text(&g, i ? ",\n    " : "\n    ");
        oz_grow_json_string(&g, h->sorted[i].name, strlen(h->sorted[i].name));
        snprintf(s, sizeof s, ": \"model-%05d-of-%05d.safetensors\"", h->sorted[i].shard + 1, h->nshard);
        oz_grow_text(&g, s);
    }
    oz_grow_text(&g, "\n  }\n}\n");
    size_t bytes = g.n;
    char *text = oz_grow_take(&g), *path = oz_path_join(h->dir, "model.safetensors.index.json");
    oz_status status = text && path ? oz_write_file(path, text, bytes) : OZ_ERR_NOMEM;
    oz_free(text);
    oz_free(path);
    return status;
}

/* The index comes last: a folder with an index has all of its shards. */
oz_status oz_hf_commit(oz_hf_writer *h)
{
    oz_status status = OZ_OK;
    for (int k = 0; k < h->nshard && !status; k++) {
        oz_writer *w = h->shard[k];
        h->shard[k] = NULL;
        status = oz_writer_commit(w);
    }
    if (!status && h->nshard > 1) status = write_index(h);
    oz_hf_abandon(h);
    return status;
}

void oz_hf_abandon(oz_hf_writer *h)
{
    if (!h) return;
    for (int k = 0; h->shard && k < h->nshard; k++) oz_writer_abandon(h->shard[k]);
    oz_arena_free(h->arena);
    oz_free(h->shard);
    oz_free(h->order);
    oz_free(h->sorted);
    oz_free(h->dir);
    oz_free(h);
}
