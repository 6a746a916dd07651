/* core/text/encode.c: text to ids.
 *
 *   text -> added tokens cut out -> normalize -> normalized added tokens cut out -> words -> merges
 *
 * in the order Hugging Face's tokenizers do it, so ids agree.  Malformed bytes are legal: a run of them is a word of its own, whatever
 * the patterns say, merged like any other; the well-formed stretches around it are texts of their own.
 *
 * A long text remembers the ids of words it has seen; the memory belongs to the call, so a tokenizer is shared by threads. */
#include "core/text/tokenizer.h"

enum { CACHE_FROM = 4096, CACHE_SLOTS = 1 << 12, CACHE_SLOTS_MAX = 1 << 17, CACHE_WORD = 40 };

typedef struct {
    uint64_t hash;
    uint32_t word, id; /* where in the pools */
    uint16_t bytes, n; /* bytes 0: free */
} cache_slot;

typedef struct {
    const oz_tokenizer *t;
    unsigned flags;
    oz_ids out;
    oz_bpe_scratch scratch;
    oz_pre_run run;
    oz_sb normal;
    cache_slot *slot;
    uint32_t mask, used;
    oz_sb words;
    oz_ids pool;
} encoder;

static oz_status grow_cache(encoder *e)
{
    uint32_t slots = e->slot ? (e->mask + 1) * 2 : CACHE_SLOTS;
    cache_slot *grown = oz_zalloc(slots, sizeof *grown);
    if (!grown) return OZ_ERR_NOMEM;
    for (uint32_t i = 0; e->slot && i <= e->mask; i++) {
        if (!e->slot[i].bytes) continue;
        uint32_t k = (uint32_t)e->slot[i].hash & (slots - 1);
        while (grown[k].bytes) k = (k + 1) & (slots - 1);
        grown[k] = e->slot[i];
    }
    oz_free(e->slot);
    e->slot = grown, e->mask = slots - 1;
    return OZ_OK;
}

static oz_status merge_word(encoder *e, const char *s, size_t n)
{
    const oz_tokenizer *t = e->t;
    if (t->ignore_merges) {
        int32_t id = oz_str_map_find(&t->by_piece, t->piece, s, n);
        if (id >= 0) {
            OZ_TRY(oz_ids_reserve(&e->out, 1));
            e->out.id[e->out.n++] = id;
            return OZ_OK;
        }
    }
    return oz_bpe_word(&t->bpe, (const uint8_t *)s, n, &e->out, &e->scratch);
}

static oz_status word(void *ctx, const char *s, size_t n)
{
    encoder *e = ctx;
    if (!e->slot || n > CACHE_WORD) return merge_word(e, s, n);
    uint64_t hash = oz_word_hash(s, n);
    uint32_t k = (uint32_t)hash & e->mask;
    for (; e->slot[k].bytes; k = (k + 1) & e->mask) {
        const cache_slot *c = &e->slot[k];
        if (c->hash != hash || c->bytes != n || memcmp(e->words.s + c->word, s, n)) continue;
        OZ_TRY(oz_ids_reserve(&e->out, c->n));
        int32_t *to = e->out.id + e->out.n;
        for (int i = 0; i < c->n; i++) to[i] = e->pool.id[c->id + (uint32_t)i];
        e->out.n += c->n;
        return OZ_OK;
    }
    size_t from = e->out.n;
    OZ_TRY(merge_word(e, s, n));
    size_t made = e->out.n - from;
    if (e->used >= CACHE_SLOTS_MAX / 2) return OZ_OK; /* full: what it knows is enough */
    OZ_TRY(oz_ids_reserve(&e->pool, made));
    e->slot[k] = (cache_slot){hash, (uint32_t)e->words.n, (uint32_t)e->pool.n, (uint16_t)n, (uint16_t)made};
    oz_sb_put(&e->words, s, n);
    if (e->words.failed) return OZ_ERR_NOMEM;
    if (made) memcpy(e->pool.id + e->pool.n, e->out.id + from, made * sizeof(int32_t));
    e->pool.n += made;
    if (++e->used * 2 > e->mask) OZ_TRY(grow_cache(e));
    return OZ_OK;
}

/* ---- added tokens ---- */
/* The longest token of the sorted list that begins at s: the range that agrees with the first k bytes shrinks as k grows. */
static const oz_added *longest(const oz_trie *trie, const char *s, size_t n)
{
    int lo = trie->first[(uint8_t)s[0]], hi = trie->first[(uint8_t)s[0] + 1];
    const oz_added *best = NULL;
    for (size_t k = 1; lo < hi; k++) {
        if (trie->token[lo]->match.n == k) best = trie->token[lo++]; /* the shortest of a range sorts first, and equal ones are merged */
        if (k == n) break;
        uint8_t c = (uint8_t)s[k];
        int a = lo, b = hi;
        while (a < b) {
            int m = (a + b) / 2;
            if ((uint8_t)trie->token[m]->match.s[k] < c)
                a = m + 1;
            else
                b = m;
        }
        int first = a;
        for (b = hi; a < b;) {
            int m = (a + b) / 2;
            if ((uint8_t)trie->token[m]->match.s[k] <= c)
                a = m + 1;
            else
                b = m;
        }
        lo = first, hi = a;
    }
    return best;
}

static bool word_before(const char *s, size_t at)
{
    uint32_t c;
    size_t p = oz_utf8_before(s, at);
    return at > 0 && oz_utf8_decode(s + p, at - p, &c) && oz_utf8_is_word(c);
}
static bool word_after(const char *s, size_t at, size_t n)
{
    uint32_t c;
    return oz_utf8_decode(s + at, n - at, &c) && oz_utf8_is_word(c);
}
static size_t spaces_before(const char *s, size_t from, size_t at)
{
    while (at > from) {
        uint32_t c;
        size_t p = oz_utf8_before(s, at);
        if (p < from || !oz_utf8_decode(s + p, at - p, &c) || !oz_utf8_is_space(c)) break;
        at = p;
    }
    return at;
}
static size_t spaces_after(const char *s, size_t at, size_t n)
{
    uint32_t c;
    int len;
    while (at < n && (len = oz_utf8_decode(s + at, n - at, &c)) && oz_utf8_is_space(c)) at += (size_t)len;
    return at;
}

/* Calls `plain` on the text between added tokens, and appends their ids. */
static oz_status cut(encoder *e, const oz_trie *trie, const char *s, size_t n, oz_status (*plain)(encoder *, const char *, size_t))
{
    size_t done = 0;
    for (size_t i = 0; trie->n && i < n;) {
        const oz_added *a = trie->first[(uint8_t)s[i]] < trie->first[(uint8_t)s[i] + 1] ? longest(trie, s + i, n - i) : NULL;
        if (!a) {
            i++;
            continue;
        }
        size_t start = i, end = i + a->match.n;
        i = end; /* also when the match does not count: the search goes on behind it */
        if (a->special && !(e->flags & OZ_TOKENIZE_SPECIAL)) continue;
        if (a->single_word && (word_before(s, start) || word_after(s, end, n))) continue;
        if (a->lstrip) start = spaces_before(s, done, start);
        if (a->rstrip) i = end = spaces_after(s, end, n);
        if (start > done) OZ_TRY(plain(e, s + done, start - done));
        OZ_TRY(oz_ids_reserve(&e->out, 1));
        e->out.id[e->out.n++] = a->id;
        done = end;
    }
    return n > done ? plain(e, s + done, n - done) : OZ_OK;
}

static oz_status words(encoder *e, const char *s, size_t n) { return oz_pre_words(&e->run, s, n); }

static oz_status segment(encoder *e, const char *s, size_t n)
{
    while (n > 0) {
        size_t good = oz_utf8_valid(s, n);
        if (good > 0) {
            oz_str text;
            OZ_TRY(oz_normalize(e->t->norm, s, good, &e->normal, &text));
            OZ_TRY(cut(e, &e->t->trie[1], text.s, text.n, words));
        }
        s += good, n -= good;
        size_t bad = oz_utf8_malformed(s, n);
        if (bad > 0) OZ_TRY(word(e, s, bad));
        s += bad, n -= bad;
    }
    return OZ_OK;
}

oz_status oz_tokenize(const oz_tokenizer *t, const char *text, size_t bytes, unsigned flags, int32_t **ids, int64_t *n)
{
    encoder e = {.t = t, .flags = flags};
    *ids = NULL, *n = 0;
    oz_status status = oz_ids_reserve(&e.out, bytes / 4 + 16);
    if (!status && bytes >= CACHE_FROM) status = grow_cache(&e);
    if (!status) status = oz_pre_begin(&e.run, &t->pre, word, &e);
    if (!status && (flags & OZ_TOKENIZE_BOS)) {
        if (t->bos < 0)
            status = oz_fail(OZ_ERR_UNSUPPORTED, "ask without a BOS token", "this tokenizer (%s) has no BOS token", t->kind);
        else
            e.out.id[e.out.n++] = t->bos;
    }
    if (!status) status = cut(&e, &t->trie[0], text, bytes, segment);
    oz_pre_end(&e.run);
    oz_free(e.scratch.p);
    oz_free(e.normal.s);
    oz_free(e.slot);
    oz_free(e.words.s);
    oz_free(e.pool.id);
    if (status) {
        oz_free(e.out.id);
        return status;
    }
    *ids = e.out.id;
    *n = (int64_t)e.out.n;
    return OZ_OK;
}
