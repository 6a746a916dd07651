/* core/text/tokenizer.c: the vocabulary: building it from what a file says, and asking it.
 *
 * The byte alphabet (GPT-2): bytes 0x21..0x7e, 0xa1..0xac, 0xae..0xff are spelled as the character of that number, the other 68, in
 * order, as U+0100, U+0101, ...  Worked example: " é" is 20 c3 a9, spelled U+0120 U+00C3 U+00A9. */
#include <stdio.h>
#include <stdlib.h>
#include "core/text/tokenizer.h"

/* Byte of a character of the alphabet; -1: the character is not in it. */
static int alphabet_byte(uint32_t c)
{
    if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff)) return (int)c;
    if (c < 0x100 || c >= 0x100 + 68) return -1;
    int k = (int)c - 0x100;
    if (k < 0x21) return k;                    /* 0x00..0x20 */
    if (k < 0x21 + 34) return 0x7f + k - 0x21; /* 0x7f..0xa0 */
    return 0xad;
}

/* ---- maps from text to id ---- */
static oz_status map_new(oz_str_map *m, oz_arena *arena, int32_t n)
{
    uint32_t slots = 64;
    while (slots < (uint32_t)n * 2u) slots *= 2;
    m->slot = oz_arena_alloc(arena, slots * sizeof *m->slot);
    if (!m->slot) return OZ_ERR_NOMEM;
    memset(m->slot, 0xff, slots * sizeof *m->slot);
    m->mask = slots - 1;
    return OZ_OK;
}

int32_t oz_str_map_find(const oz_str_map *m, const oz_str *strings, const char *s, size_t n)
{
    if (!m->slot) return -1;
    for (uint32_t i = (uint32_t)oz_word_hash(s, n) & m->mask; m->slot[i] >= 0; i = (i + 1) & m->mask) {
        const oz_str *x = &strings[m->slot[i]];
        if (x->n == n && !memcmp(x->s, s, n)) return m->slot[i];
    }
    return -1;
}

/* The first of equal texts stays; returns the id that was there, or -1. */
static int32_t map_put(oz_str_map *m, const oz_str *strings, int32_t id)
{
    const oz_str *x = &strings[id];
    uint32_t i = (uint32_t)oz_word_hash(x->s, x->n) & m->mask;
    for (; m->slot[i] >= 0; i = (i + 1) & m->mask) {
        const oz_str *y = &strings[m->slot[i]];
        if (x->n == y->n && !memcmp(x->s, y->s, x->n)) return m->slot[i];
    }
    m->slot[i] = id;
    return -1;
}

/* ---- building ---- */
oz_status oz_tokenizer_new(oz_tokenizer **out, int32_t n, size_t bytes, size_t merges, size_t added)
{
    *out = NULL;
    oz_tokenizer *t = oz_zalloc(1, sizeof *t);
    if (!t) return OZ_ERR_NOMEM;
    t->n = n, t->pool_bytes = bytes, t->bos = t->eos = t->pad = t->unk_id = -1;
    t->added_cap = (int)added;
    oz_status s = oz_arena_new(&t->arena, 0);
    if (!s) s = oz_bpe_init(&t->bpe, merges);
    if (!s) {
        t->spell = oz_arena_zalloc(t->arena, (size_t)n * sizeof *t->spell + 1);
        t->piece = oz_arena_zalloc(t->arena, (size_t)n * sizeof *t->piece + 1);
        t->flag = oz_arena_zalloc(t->arena, (size_t)n + 1);
        t->pool = oz_arena_alloc(t->arena, bytes + 1);
        t->merge = oz_arena_alloc(t->arena, merges * sizeof *t->merge + 1);
        t->added = oz_arena_zalloc(t->arena, added * sizeof *t->added + 1);
        if (!t->spell || !t->piece || !t->flag || !t->pool || !t->merge || !t->added) s = OZ_ERR_NOMEM;
    }
    if (s) {
        oz_tokenizer_free(t);
        return s;
    }
    *out = t;
    return OZ_OK;
}

void oz_tokenizer_free(oz_tokenizer *t)
{
    if (!t) return;
    oz_pre_free(&t->pre);
    oz_bpe_free(&t->bpe);
    oz_arena_free(t->arena);
    oz_free(t);
}

oz_status oz_tokenizer_put(oz_tokenizer *t, int32_t id, const char *s, size_t n, unsigned flags, const char *file)
{
    if (id < 0 || id >= t->n)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: token \"%.*s\" has id %d, expected 0 to %d", file, (int)(n < 60 ? n : 60), s, (int)id,
                       (int)t->n - 1);
    if (t->spell[id].s) {
        if (t->spell[id].n == n && !memcmp(t->spell[id].s, s, n)) {
            t->flag[id] |= (uint8_t)flags;
            return OZ_OK;
        }
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: id %d is given to both \"%.*s\" and \"%.*s\"", file, (int)id,
                       (int)(t->spell[id].n < 60 ? t->spell[id].n : 60), t->spell[id].s, (int)(n < 60 ? n : 60), s);
    }
    if (n > t->pool_bytes - t->pool_used)
        return oz_fail(OZ_ERR_RANGE, NULL, "%s: token %d does not fit the %zu bytes of the vocabulary", file, (int)id, t->pool_bytes);
    char *to = t->pool + t->pool_used;
    if (n) memcpy(to, s, n);
    t->pool_used += n;
    t->spell[id] = (oz_str){to, n};
    t->flag[id] = (uint8_t)flags;
    return OZ_OK;
}

/* Raw bytes of every token, and the two maps. */
oz_status oz_tokenizer_index(oz_tokenizer *t, const char *file)
{
    char *raw = oz_arena_alloc(t->arena, t->pool_bytes + 1);
    if (!raw) return OZ_ERR_NOMEM;
    OZ_TRY(map_new(&t->by_spell, t->arena, t->n));
    OZ_TRY(map_new(&t->by_piece, t->arena, t->n));
    size_t used = 0;
    for (int32_t id = 0; id < t->n; id++) {
        oz_str s = t->spell[id];
        if (!s.s) continue;
        t->piece[id] = s;
        if (!(t->flag[id] & OZ_TOKEN_MODEL)) continue;
        size_t n = 0;
        bool all = !(t->flag[id] & OZ_TOKEN_ADDED);
        for (size_t i = 0; i < s.n && all;) {
            uint32_t c = 0;
            int len = oz_utf8_decode(s.s + i, s.n - i, &c), b = len ? alphabet_byte(c) : -1;
            all = b >= 0;
            if (all) raw[used + n++] = (char)b;
            i += (size_t)len;
        }
        if (all) { /* else: a token of another kind, which stands for itself */
            t->piece[id] = (oz_str){raw + used, n};
            used += n;
        }
        int32_t twin = map_put(&t->by_spell, t->spell, id);
        if (twin >= 0 && !(t->flag[id] & OZ_TOKEN_UNUSED))
            return oz_fail(OZ_ERR_PARSE, NULL, "%s: ids %d and %d are the same token \"%.*s\"", file, (int)twin, (int)id,
                           (int)(s.n < 60 ? s.n : 60), s.s);
        if (!(t->flag[id] & OZ_TOKEN_UNUSED)) map_put(&t->by_piece, t->piece, id);
        if (all && n == 1 && t->bpe.byte_id[(uint8_t)t->piece[id].s[0]] < 0) t->bpe.byte_id[(uint8_t)t->piece[id].s[0]] = id;
    }
    return OZ_OK;
}

oz_status oz_tokenizer_put_merge(oz_tokenizer *t, const char *a, size_t na, const char *b, size_t nb, const char *file)
{
    int32_t left = oz_str_map_find(&t->by_spell, t->spell, a, na), right = oz_str_map_find(&t->by_spell, t->spell, b, nb);
    char small[128], *both = small;
    if (na + nb > sizeof small) both = oz_alloc(na + nb, 1);
    if (!both) return OZ_ERR_NOMEM;
    if (na) memcpy(both, a, na);
    if (nb) memcpy(both + na, b, nb);
    int32_t id = oz_str_map_find(&t->by_spell, t->spell, both, na + nb);
    if (both != small) oz_free(both);
    if (left < 0 || right < 0 || id < 0)
        return oz_fail(OZ_ERR_PARSE, NULL, "%s: merge %d, \"%.*s\" + \"%.*s\": %s is not in the vocabulary of %d tokens", file,
                       (int)t->nmerge, (int)(na < 60 ? na : 60), a, (int)(nb < 60 ? nb : 60), b,
                       left < 0    ? "the left part"
                       : right < 0 ? "the right part"
                                   : "the result",
                       (int)t->n);
    oz_bpe_add(&t->bpe, left, right, (uint32_t)t->nmerge, id);
    t->merge[t->nmerge][0] = left, t->merge[t->nmerge][1] = right;
    t->nmerge++;
    return OZ_OK;
}

oz_status oz_tokenizer_put_added(oz_tokenizer *t, const oz_added *a, const char *file)
{
    oz_str s = t->spell[a->id];
    if (s.n == 0) return oz_fail(OZ_ERR_PARSE, NULL, "%s: added token %d has no text", file, (int)a->id);
    oz_added *x = &t->added[t->nadded];
    *x = *a;
    x->match = s;
    t->flag[a->id] |= (uint8_t)(OZ_TOKEN_ADDED | (a->special ? OZ_TOKEN_SPECIAL : 0));
    t->nadded++;
    if (!a->normalized || t->norm == OZ_NORM_NONE) return OZ_OK;
    oz_sb buffer = {0};
    oz_str form;
    oz_status status = oz_utf8_valid(s.s, s.n) < s.n ? OZ_OK : oz_normalize(t->norm, s.s, s.n, &buffer, &form);
    if (!status && buffer.s && form.s == buffer.s) {
        char *copy = oz_arena_alloc(t->arena, form.n + 1);
        if (copy) memcpy(copy, form.s, form.n);
        if (copy)
            x->match = (oz_str){copy, form.n};
        else
            status = OZ_ERR_NOMEM;
    }
    oz_free(buffer.s);
    return status;
}

static int by_bytes(const void *pa, const void *pb)
{
    const oz_added *a = *(const oz_added *const *)pa, *b = *(const oz_added *const *)pb;
    size_t n = a->match.n < b->match.n ? a->match.n : b->match.n;
    int c = memcmp(a->match.s, b->match.s, n);
    if (c) return c;
    if (a->match.n != b->match.n) return a->match.n < b->match.n ? -1 : 1;
    return a->id < b->id ? -1 : 1;
}

static oz_status make_trie(oz_tokenizer *t, int which)
{
    oz_trie *r = &t->trie[which];
    r->token = oz_arena_alloc(t->arena, (size_t)t->nadded * sizeof *r->token + 1);
    if (!r->token) return OZ_ERR_NOMEM;
    for (int i = 0; i < t->nadded; i++)
        if (t->added[i].normalized == (which == 1) && t->added[i].match.n) r->token[r->n++] = &t->added[i];
    if (r->n) qsort(r->token, (size_t)r->n, sizeof *r->token, by_bytes);
    int kept = 0; /* of equal texts the lowest id is matched */
    for (int i = 0; i < r->n; i++) {
        const oz_str *a = &r->token[i]->match, *b = kept ? &r->token[kept - 1]->match : NULL;
        if (!b || a->n != b->n || memcmp(a->s, b->s, a->n)) r->token[kept++] = r->token[i];
    }
    r->n = kept;
    for (int b = 0, i = 0; b <= 256; b++) {
        while (i < r->n && (uint8_t)r->token[i]->match.s[0] < b) i++;
        r->first[b] = i;
    }
    return OZ_OK;
}

/* Names under which chat models end a turn or a text; files often list only one of them. */
static const char *const ends[] = {"<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>",      "<end_of_turn>",
                                   "<|end|>",    "</s>",          "<|endofturn|>",   "<EOT>",      "<|end_of_turn|>", "<|return|>"};

oz_status oz_tokenizer_finish(oz_tokenizer *t, const char *file)
{
    OZ_TRY(oz_pre_compile(&t->pre, file));
    OZ_TRY(make_trie(t, 0));
    OZ_TRY(make_trie(t, 1));
    const int32_t named[] = {t->bos, t->eos, t->pad, t->unk_id};
    static const char *const names[] = {"BOS", "EOS", "padding", "unknown"};
    for (int i = 0; i < 4; i++)
        if (named[i] < -1 || named[i] >= t->n)
            return oz_fail(OZ_ERR_RANGE, NULL, "%s: the %s token has id %d, expected 0 to %d", file, names[i], (int)named[i],
                           (int)t->n - 1);
    if (t->eos >= 0) t->flag[t->eos] |= OZ_TOKEN_END;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        int32_t id = oz_tokenizer_find(t, ends[i]);
        if (id >= 0 && (t->flag[id] & OZ_TOKEN_SPECIAL)) t->flag[id] |= OZ_TOKEN_END;
    }
    t->preset = t->preset ? t->preset : oz_preset_like(&t->pre, t->norm);
    snprintf(t->kind, sizeof t->kind, "byte-level BPE, %s", t->preset ? t->preset->name : "own pre-tokenizer");
    return OZ_OK;
}

/* ---- asking ---- */
int32_t oz_tokenizer_vocab(const oz_tokenizer *t) { return t->n; }
int32_t oz_tokenizer_bos(const oz_tokenizer *t) { return t->bos; }
int32_t oz_tokenizer_eos(const oz_tokenizer *t) { return t->eos; }
bool oz_tokenizer_adds_bos(const oz_tokenizer *t) { return t->adds_bos && t->bos >= 0; }
const char *oz_tokenizer_kind(const oz_tokenizer *t) { return t->kind; }
bool oz_tokenizer_is_end(const oz_tokenizer *t, int32_t id) { return id >= 0 && id < t->n && (t->flag[id] & OZ_TOKEN_END); }
bool oz_tokenizer_is_special(const oz_tokenizer *t, int32_t id) { return id >= 0 && id < t->n && (t->flag[id] & OZ_TOKEN_SPECIAL); }

const char *oz_tokenizer_piece(const oz_tokenizer *t, int32_t id, size_t *bytes)
{
    bool known = id >= 0 && id < t->n && t->piece[id].s;
    *bytes = known ? t->piece[id].n : 0;
    return known ? t->piece[id].s : "";
}

int32_t oz_tokenizer_find(const oz_tokenizer *t, const char *piece)
{
    size_t n = strlen(piece);
    for (int i = 0; i < t->nadded; i++) {
        oz_str s = t->spell[t->added[i].id];
        if (s.n == n && !memcmp(s.s, piece, n)) return t->added[i].id;
    }
    return oz_str_map_find(&t->by_piece, t->piece, piece, n);
}

oz_status oz_detokenize(const oz_tokenizer *t, const int32_t *ids, int64_t n, bool skip_special, char **text, size_t *bytes)
{
    oz_sb b = {0};
    *text = NULL, *bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->n) {
            oz_free(b.s);
            return oz_fail(OZ_ERR_RANGE, NULL, "token %lld of the text has id %d, this vocabulary has 0 to %d", (long long)i, (int)ids[i],
                           (int)t->n - 1);
        }
        if (skip_special && (t->flag[ids[i]] & OZ_TOKEN_SPECIAL)) continue;
        oz_sb_put(&b, t->piece[ids[i]].s, t->piece[ids[i]].n);
    }
    return oz_sb_end(&b, text, bytes);
}
