/* core/io/ckpt.c: a checkpoint of either kind behind one face: files are mapped, tensors are found by name.
 *
 * The kind is decided by content: a folder is a Hugging Face checkpoint; a file that begins with "GGUF" is GGUF, any other is
 * tried as one safetensors file.  Names of shards come from a file and are therefore taken only when they are plain file
 * names of the same folder.  Tensors called "__pad.N" are our own writer's fillers (writer_safetensors.c) and are not shown. */
#include "core/io/io_internal.h"
#include <fcntl.h>
#include <string.h>

#define CONFIG_MAX    (4u << 20)
#define INDEX_MAX     (32u << 20) /* about 300 thousand tensors */
#define SIDE_FILE_MAX (512u << 20)
#define SHARDS_MAX    4096

struct oz_ckpt {
    oz_ckpt_kind kind;
    char *path, *folder;
    oz_arena *arena;
    oz_file_map map[SHARDS_MAX];
    const char *file[SHARDS_MAX]; /* path of each */
    int nmap;
    oz_tensor *tensor;
    int ntensor;
    const oz_tensor **index;
    oz_node *config;
    oz_gguf_value *value;
    int nvalue;
    size_t header_bytes; /* GGUF */
};

static oz_status open_map(oz_ckpt *c, const char *path)
{
    if (c->nmap == SHARDS_MAX) return oz_fail(OZ_ERR_RANGE, NULL, "%s: more than %d shards", c->path, SHARDS_MAX);
    if (!(c->file[c->nmap] = oz_arena_strdup(c->arena, path))) return OZ_ERR_NOMEM;
    OZ_TRY(oz_map_open(&c->map[c->nmap], path));
    c->nmap++;
    return OZ_OK;
}

/* Adds the tensors of map number `shard`. */
static oz_status add_shard(oz_ckpt *c, int shard)
{
    oz_parsed p;
    OZ_TRY(oz_safetensors_parse(c->map[shard].data, c->map[shard].bytes, c->file[shard], c->arena, &p));
    if (p.ntensor > INT32_MAX - c->ntensor) return oz_fail(OZ_ERR_RANGE, NULL, "%s: too many tensors", c->path);
    oz_tensor *all = oz_realloc(c->tensor, (size_t)(c->ntensor + p.ntensor) + 1, sizeof *all);
    if (!all) return OZ_ERR_NOMEM;
    c->tensor = all;
    for (int i = 0; i < p.ntensor; i++) {
        if (!strncmp(p.tensor[i].name, "__pad.", 6)) continue;
        all[c->ntensor] = p.tensor[i];
        all[c->ntensor++].shard = shard;
    }
    return OZ_OK;
}

static oz_status make_index(oz_ckpt *c)
{
    const oz_tensor *twice;
    OZ_TRY(oz_tensor_index(c->tensor, c->ntensor, c->arena, &c->index, &twice));
    if (!twice) return OZ_OK;
    const char *also = c->file[twice->shard];
    for (int i = 0; i < c->ntensor; i++)
        if (&c->tensor[i] != twice && !strcmp(c->tensor[i].name, twice->name)) also = c->file[c->tensor[i].shard];
    return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor \"%s\" occurs twice, also in %s", c->file[twice->shard], twice->name, also);
}

static oz_status read_tree(oz_ckpt *c, const char *path, size_t max, oz_node **out)
{
    char *text;
    size_t bytes;
    OZ_TRY(oz_read_file(path, max, &text, &bytes));
    oz_status status = oz_json_parse(out, text, bytes, path, c->arena);
    oz_free(text);
    if (!status && (*out)->kind != OZ_NODE_MAP) status = oz_fail(OZ_ERR_PARSE, NULL, "%s: expected a map at the top", path);
    return status;
}

static oz_status open_sharded(oz_ckpt *c, const char *index_path)
{
    oz_node *tree;
    OZ_TRY(read_tree(c, index_path, INDEX_MAX, &tree));
    const oz_node *map = oz_node_get(tree, "weight_map");
    if (!map || map->kind != OZ_NODE_MAP || map->n == 0)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: no weight_map with tensors in it", index_path);
    int *shard = oz_arena_alloc(c->arena, (size_t)map->n * sizeof *shard);
    if (!shard) return OZ_ERR_NOMEM;
    for (int i = 0; i < map->n; i++) {
        const oz_node *v = map->item[i].value;
        if (v->kind != OZ_NODE_TEXT || !oz_plain_name(v->text, v->length))
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: tensor \"%s\" is said to be in \"%s\", expected the name of a file in the same folder",
                           index_path, map->item[i].key, oz_node_text(v, "(not a text)"));
        char *path = oz_path_join(c->folder, v->text);
        if (!path) return OZ_ERR_NOMEM;
        /* neighbours are mostly in the same shard */
        int k = i ? shard[i - 1] : 0;
        if (k >= c->nmap || strcmp(c->file[k], path))
            for (k = 0; k < c->nmap && strcmp(c->file[k], path);) k++;
        oz_status status = k == c->nmap ? open_map(c, path) : OZ_OK;
        if (status) (void)oz_fail_in(status, "%s names this shard for tensor \"%s\"", index_path, map->item[i].key);
        oz_free(path);
        OZ_TRY(status);
        shard[i] = k;
    }
    for (int i = 0; i < c->nmap; i++) OZ_TRY(add_shard(c, i));
    OZ_TRY(make_index(c));
    for (int i = 0; i < map->n; i++) {
        const oz_tensor *t = oz_ckpt_find(c, map->item[i].key);
        if (!t || t->shard != shard[i])
            return oz_fail(OZ_ERR_PARSE, "the shards and the index are of different downloads",
                           "%s says that tensor \"%s\" is in %s, which does not hold it", index_path, map->item[i].key, c->file[shard[i]]);
    }
    return OZ_OK;
}

static oz_status open_single(oz_ckpt *c, const char *path)
{
    if (!c->nmap) OZ_TRY(open_map(c, path));
    OZ_TRY(add_shard(c, 0));
    return make_index(c);
}

static oz_status open_folder(oz_ckpt *c)
{
    char *config = oz_path_join(c->path, "config.json"), *one = oz_path_join(c->path, "model.safetensors");
    char *index = oz_path_join(c->path, "model.safetensors.index.json"), *torch = oz_path_join(c->path, "pytorch_model.bin");
    oz_status status = OZ_OK;
    if (!config || !one || !index || !torch)
        status = OZ_ERR_NOMEM;
    else if (!oz_path_exists(config))
        status =
            oz_fail(OZ_ERR_IO, "a model folder holds config.json, model.safetensors and tokenizer.json", "%s has no config.json", c->path);
    else
        status = read_tree(c, config, CONFIG_MAX, &c->config);
    if (!status && oz_path_exists(one))
        status = open_single(c, one);
    else if (!status && oz_path_exists(index))
        status = open_sharded(c, index);
    else if (!status)
        status =
            oz_fail(OZ_ERR_IO, oz_path_exists(torch) ? "save pytorch_model.bin as safetensors first" : "finish the download of the model",
                    "%s has neither model.safetensors nor model.safetensors.index.json", c->path);
    oz_free(config);
    oz_free(one);
    oz_free(index);
    oz_free(torch);
    return status;
}

static oz_status open_gguf(oz_ckpt *c)
{
    oz_parsed p;
    c->kind = OZ_CKPT_GGUF;
    OZ_TRY(oz_gguf_parse(c->map[0].data, c->map[0].bytes, c->path, c->arena, &p));
    c->value = p.value;
    c->nvalue = p.nvalue;
    c->header_bytes = p.header_bytes;
    c->tensor = oz_alloc((size_t)p.ntensor + 1, sizeof *c->tensor);
    if (!c->tensor) return OZ_ERR_NOMEM;
    if (p.ntensor) memcpy(c->tensor, p.tensor, (size_t)p.ntensor * sizeof *c->tensor);
    c->ntensor = p.ntensor;
    int64_t parts = 0;
    if (oz_gguf_int(oz_ckpt_meta(c, "split.count"), &parts) && parts > 1)
        return oz_fail(OZ_ERR_UNSUPPORTED, "join the parts with llama-gguf-split --merge", "%s is one of %lld parts of a split GGUF file",
                       c->path, (long long)parts);
    return make_index(c);
}

static oz_status open_file(oz_ckpt *c)
{
    OZ_TRY(open_map(c, c->path));
    const uint8_t *p = c->map[0].data;
    size_t n = c->map[0].bytes;
    if (n >= 4 && !memcmp(p, "GGUF", 4)) return open_gguf(c);
    if (n < 10 || p[8] != '{')
        return oz_fail(OZ_ERR_PARSE, "a model is a folder with config.json, a .gguf file, or a .safetensors file",
                       "%s is neither GGUF nor safetensors: %zu bytes beginning with %02x %02x %02x %02x", c->path, n, n > 0 ? p[0] : 0,
                       n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, n > 3 ? p[3] : 0);
    OZ_TRY(open_single(c, c->path));
    char *config = oz_path_join(c->folder, "config.json");
    oz_status status = !config ? OZ_ERR_NOMEM : oz_path_exists(config) ? read_tree(c, config, CONFIG_MAX, &c->config) : OZ_OK;
    oz_free(config);
    return status;
}

oz_status oz_ckpt_open(oz_ckpt **out, const char *path)
{
    *out = NULL;
    oz_ckpt *c = oz_zalloc(1, sizeof *c);
    if (!c) return OZ_ERR_NOMEM;
    oz_status status = oz_arena_new(&c->arena, 0);
    bool folder = oz_path_is_dir(path);
    c->kind = OZ_CKPT_HF;
    c->path = oz_strdup(path);
    c->folder = folder ? oz_strdup(path) : oz_path_folder(path);
    if (!status && (!c->path || !c->folder)) status = OZ_ERR_NOMEM;
    if (!status) status = folder ? open_folder(c) : open_file(c);
    if (status) {
        oz_saved_error saved;
        oz_error_save(&saved, status);
        oz_ckpt_close(c);
        return oz_error_restore(&saved);
    }
    *out = c;
    return OZ_OK;
}

void oz_ckpt_close(oz_ckpt *c)
{
    if (!c) return;
    for (int i = 0; i < c->nmap; i++) oz_map_close(&c->map[i]);
    oz_free(c->tensor);
    oz_arena_free(c->arena);
    oz_free(c->path);
    oz_free(c->folder);
    oz_free(c);
}

oz_ckpt_kind oz_ckpt_kind_of(const oz_ckpt *c) { return c->kind; }
const char *oz_ckpt_path(const oz_ckpt *c) { return c->path; }
int oz_ckpt_count(const oz_ckpt *c) { return c->ntensor; }
const oz_tensor *oz_ckpt_tensor(const oz_ckpt *c, int i) { return i >= 0 && i < c->ntensor ? &c->tensor[i] : NULL; }
const oz_tensor *oz_ckpt_find(const oz_ckpt *c, const char *name) { return oz_tensor_lookup(c->index, c->ntensor, name); }
const oz_node *oz_ckpt_config(const oz_ckpt *c) { return c->config; }
int oz_ckpt_meta_count(const oz_ckpt *c) { return c->nvalue; }
const oz_gguf_value *oz_ckpt_meta_at(const oz_ckpt *c, int i) { return i >= 0 && i < c->nvalue ? &c->value[i] : NULL; }

oz_status oz_ckpt_need(const oz_ckpt *c, const char *name, const oz_tensor **out)
{
    *out = oz_ckpt_find(c, name);
    if (*out) return OZ_OK;
    const char **names = oz_alloc((size_t)c->ntensor + 1, sizeof *names);
    if (!names) return OZ_ERR_NOMEM;
    for (int i = 0; i < c->ntensor; i++) names[i] = c->tensor[i].name;
    names[c->ntensor] = NULL;
    int near = oz_nearest(name, names);
    oz_status status = near < 0 ? oz_fail(OZ_ERR_KEY, NULL, "%s has no tensor \"%s\"", c->path, name)
                                : oz_fail(OZ_ERR_KEY, NULL, "%s has no tensor \"%s\"; the nearest is \"%s\"", c->path, name, names[near]);
    oz_free(names);
    return status;
}

const oz_gguf_value *oz_ckpt_meta(const oz_ckpt *c, const char *key)
{
    for (int i = 0; i < c->nvalue; i++)
        if (!strcmp(c->value[i].key, key)) return &c->value[i];
    return NULL;
}

uint64_t oz_ckpt_file_bytes(const oz_ckpt *c)
{
    uint64_t n = 0;
    for (int i = 0; i < c->nmap; i++) n += c->map[i].bytes;
    return n;
}

oz_status oz_ckpt_side_file(const oz_ckpt *c, const char *name, char **text, size_t *bytes)
{
    *text = NULL;
    if (c->kind == OZ_CKPT_GGUF) return oz_fail(OZ_ERR_IO, NULL, "%s is a GGUF file and has no %s beside it", c->path, name);
    if (!oz_plain_name(name, strlen(name))) return oz_fail(OZ_ERR_IO, NULL, "\"%s\" is not the name of a file in %s", name, c->folder);
    char *path = oz_path_join(c->folder, name);
    if (!path) return OZ_ERR_NOMEM;
    oz_status status = oz_read_file(path, SIDE_FILE_MAX, text, bytes);
    oz_free(path);
    return status;
}

/* Bytes of a tensor that stand for it: all when small, else its two ends and 32 windows between. */
static void add_sample(oz_sha256 *h, const oz_tensor *t)
{
    const size_t whole = 65536, end = 8192, window = 1024, windows = 32;
    if (t->bytes <= whole) {
        oz_sha256_add(h, t->data, t->bytes);
        return;
    }
    oz_sha256_add(h, t->data, end);
    for (size_t i = 0; i < windows; i++) oz_sha256_add(h, t->data + end + (t->bytes - 2 * end - window) / (windows - 1) * i, window);
    oz_sha256_add(h, t->data + t->bytes - end, end);
}

/* Shards and their names do not count, so a model keeps its identity when it is split in another way. */
oz_status oz_ckpt_hash(const oz_ckpt *c, uint8_t out[32])
{
    oz_sha256 *h;
    char *config = NULL;
    if (c->config && !(config = oz_json_print(c->config, 0))) return OZ_ERR_NOMEM;
    oz_status status = oz_sha256_new(&h);
    if (status) goto done;
    if (config) oz_sha256_add(h, config, strlen(config));
    for (int i = 0; i < c->nvalue; i++) {
        oz_sha256_add(h, c->value[i].key, strlen(c->value[i].key) + 1);
        oz_sha256_add(h, c->value[i].raw, c->value[i].raw_bytes);
    }
    for (int i = 0; i < c->ntensor; i++) {
        const oz_tensor *t = c->index[i];
        int64_t facts[8] = {t->dtype, t->ggml_type, t->rank, (int64_t)t->bytes};
        for (int d = 0; d < t->rank; d++) facts[4 + d] = t->shape[d];
        oz_sha256_add(h, t->name, strlen(t->name) + 1);
        oz_sha256_add(h, facts, sizeof facts);
        add_sample(h, t);
    }
    oz_sha256_end(h, out);
done:
    oz_free(config);
    return status;
}

oz_status oz_ckpt_fetch(const oz_ckpt *c, const oz_tensor *t)
{
    const oz_file_map *map = t->shard >= 0 && t->shard < c->nmap ? &c->map[t->shard] : NULL;
    if (!map || t->bytes == 0) return OZ_OK;
    oz_status status = oz_map_fetch(map, t->data, t->bytes, c->file[t->shard]);
    return status ? oz_fail_in(status, "tensor \"%s\"", t->name) : OZ_OK;
}

/* The pages leave this process and, where nobody else uses them, the page cache, which counts as memory of a cgroup. */
void oz_ckpt_drop_pages(const oz_ckpt *c, const oz_tensor *t)
{
    oz_map_advise_drop(t->data, t->bytes);
    if (t->shard >= 0 && t->shard < c->nmap)
        (void)posix_fadvise(c->map[t->shard].fd, (off_t)(t->data - c->map[t->shard].data), (off_t)t->bytes, POSIX_FADV_DONTNEED);
}
