/* core/text/bpe.c: byte pair encoding (Sennrich et al., arXiv:1508.07909; on bytes: GPT-2).
 *
 * A word begins as one symbol a byte.  Of all neighbouring pairs the one with the lowest rank (its line in the merge list;
 * leftmost among equals) becomes one symbol, until no pair is in the list.  Pairs are looked up in one open-addressed table,
 * (left id, right id) -> (rank, merged id).
 *
 * Words of up to 32 symbols, nearly all of them, keep the rank of every pair in a small array and scan it: quadratic, but
 * without any structure to keep up.  Longer ones use a heap of pairs over a linked list, n log n, so a megabyte of one letter
 * is no attack. */
#include "core/text/tokenizer.h"

enum { SMALL = 32 };
#define NO_RANK UINT32_MAX
#define NO_PAIR UINT64_MAX

oz_status oz_ids_reserve(oz_ids *ids, size_t more)
{
    if (ids->cap - ids->n >= more) return OZ_OK;
    size_t cap = ids->cap < 64 ? 64 : ids->cap;
    while (cap - ids->n < more) cap *= 2;
    int32_t *p = oz_realloc(ids->id, cap, sizeof *p);
    if (!p) return OZ_ERR_NOMEM;
    ids->id = p, ids->cap = cap;
    return OZ_OK;
}

oz_status oz_bpe_init(oz_bpe *b, size_t merges)
{
    size_t slots = 64;
    while (slots < merges * 2 + 2) slots *= 2;
    b->slot = oz_alloc(slots, sizeof *b->slot);
    if (!b->slot) return OZ_ERR_NOMEM;
    for (size_t i = 0; i < slots; i++) b->slot[i].pair = NO_PAIR;
    for (int i = 0; i < 256; i++) b->byte_id[i] = -1;
    b->mask = (uint32_t)(slots - 1);
    b->unk = -1;
    return OZ_OK;
}

void oz_bpe_free(oz_bpe *b) { oz_free(b->slot); }

static uint32_t place(uint64_t pair) { return (uint32_t)((pair * 0x9e3779b97f4a7c15u) >> 32); }

void oz_bpe_add(oz_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t i = place(pair) & b->mask;
    while (b->slot[i].pair != NO_PAIR && b->slot[i].pair != pair) i = (i + 1) & b->mask;
    b->slot[i] = (oz_merge_slot){pair, rank, id};
}

static const oz_merge_slot *look(const oz_bpe *b, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t i = place(pair) & b->mask;
    while (b->slot[i].pair != pair) {
        if (b->slot[i].pair == NO_PAIR) return NULL;
        i = (i + 1) & b->mask;
    }
    return &b->slot[i];
}

/* The symbols a word begins with; a byte the vocabulary lacks becomes the unknown token, or nothing when there is none. */
static size_t symbols(const oz_bpe *b, const uint8_t *word, size_t bytes, int32_t *id)
{
    size_t n = 0;
    bool last_unk = false;
    for (size_t i = 0; i < bytes; i++) {
        int32_t s = b->byte_id[word[i]];
        bool unk = s < 0;
        if (unk && (b->unk < 0 || (last_unk && b->fuse_unk))) continue;
        id[n++] = unk ? b->unk : s;
        last_unk = unk;
    }
    return n;
}

static size_t merge_small(const oz_bpe *b, int32_t *id, size_t n)
{
    uint32_t rank[SMALL];
    int32_t to[SMALL];
    for (size_t i = 0; i + 1 < n; i++) {
        const oz_merge_slot *m = look(b, id[i], id[i + 1]);
        rank[i] = m ? m->rank : NO_RANK;
        to[i] = m ? m->id : 0;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NO_RANK) break;
        id[best] = to[best];
        for (size_t i = best + 1; i + 1 < n; i++) id[i] = id[i + 1], rank[i] = rank[i + 1], to[i] = to[i + 1];
        n--;
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const oz_merge_slot *m = look(b, id[i], id[i + 1]);
            rank[i] = m ? m->rank : NO_RANK;
            to[i] = m ? m->id : 0;
        }
    }
    return n;
}

typedef struct {
    uint32_t rank, at;
} heap_item;

static bool before(heap_item a, heap_item b) { return a.rank != b.rank ? a.rank < b.rank : a.at < b.at; }

static void heap_push(heap_item *h, size_t *n, heap_item x)
{
    size_t i = (*n)++;
    for (; i > 0 && before(x, h[(i - 1) / 2]); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

static heap_item heap_pop(heap_item *h, size_t *n)
{
    heap_item top = h[0], x = h[--*n];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= *n) break;
        if (c + 1 < *n && before(h[c + 1], h[c])) c++;
        if (!before(h[c], x)) break;
        h[i] = h[c];
        i = c;
    }
    h[i] = x;
    return top;
}

/* Linked list prev/next over the symbols; an item of the heap is stale when the pair at its place has another rank by now. */
static size_t merge_large(const oz_bpe *b, int32_t *id, size_t n, uint32_t *prev, uint32_t *next, heap_item *heap)
{
    size_t items = 0;
    const uint32_t end = (uint32_t)n;
    for (uint32_t i = 0; i < end; i++) {
        prev[i] = i - 1; /* of 0: UINT32_MAX, no neighbour */
        next[i] = i + 1;
        const oz_merge_slot *m = i + 1 < end ? look(b, id[i], id[i + 1]) : NULL;
        if (m) heap_push(heap, &items, (heap_item){m->rank, i});
    }
    while (items > 0) {
        heap_item x = heap_pop(heap, &items);
        uint32_t l = x.at, r = next[l];
        if (id[l] < 0 || r >= end) continue;
        const oz_merge_slot *m = look(b, id[l], id[r]);
        if (!m || m->rank != x.rank) continue;
        id[l] = m->id;
        id[r] = -1;
        next[l] = next[r];
        if (next[l] < end) {
            prev[next[l]] = l;
            const oz_merge_slot *right = look(b, id[l], id[next[l]]);
            if (right) heap_push(heap, &items, (heap_item){right->rank, l});
        }
        if (prev[l] != UINT32_MAX) {
            const oz_merge_slot *left = look(b, id[prev[l]], id[l]);
            if (left) heap_push(heap, &items, (heap_item){left->rank, prev[l]});
        }
    }
    size_t out = 0;
    for (uint32_t i = 0; i < end; i = next[i]) id[out++] = id[i];
    return out;
}

oz_status oz_bpe_word(const oz_bpe *b, const uint8_t *word, size_t bytes, oz_ids *ids, oz_bpe_scratch *scratch)
{
    if (bytes >= UINT32_MAX / 4)
        return oz_fail(OZ_ERR_RANGE, "split the text", "a word of %zu bytes, at most %u are merged", bytes, UINT32_MAX / 4);
    OZ_TRY(oz_ids_reserve(ids, bytes));
    int32_t *id = ids->id + ids->n;
    size_t n = symbols(b, word, bytes, id);
    if (n <= SMALL) {
        ids->n += merge_small(b, id, n);
        return OZ_OK;
    }
    /* n first pairs and two new ones a merge, of which there are fewer than n: 3n items at most */
    size_t need = n * (2 * sizeof(uint32_t) + 3 * sizeof(heap_item));
    if (scratch->cap < need) {
        void *p = oz_realloc(scratch->p, need, 1);
        if (!p) return OZ_ERR_NOMEM;
        scratch->p = p, scratch->cap = need;
    }
    heap_item *heap = scratch->p;
    uint32_t *prev = (uint32_t *)(heap + 3 * n), *next = prev + n;
    ids->n += merge_large(b, id, n, prev, next, heap);
    return OZ_OK;
}
