/* core/io/node.c: the tree that JSON and YAML are read into and printed from.
 *
 * A list or map has no field for the room of its item array: the room is a function of n (room_for), the same for parsed
 * and built nodes, so that a value may be put into any of them.  Search in a map is linear: maps that code asks by key are
 * small, and large ones (vocabularies, tensor indices) are walked. */
#include "core/io/io_internal.h"
#include <math.h>
#include <string.h>

static size_t room_for(int n)
{
    size_t room = 4;
    while (room < (size_t)n) room *= 2;
    return room;
}

oz_pair *oz_node_items(oz_arena *a, int n) { return n < 0 ? NULL : oz_arena_zalloc(a, room_for(n) * sizeof(oz_pair)); }

const oz_node *oz_node_get(const oz_node *map, const char *key)
{
    if (!map || map->kind != OZ_NODE_MAP) return NULL;
    for (int i = 0; i < map->n; i++)
        if (!strcmp(map->item[i].key, key)) return map->item[i].value;
    return NULL;
}

const oz_node *oz_node_at(const oz_node *list, int i)
{
    bool has = list && (list->kind == OZ_NODE_LIST || list->kind == OZ_NODE_MAP) && i >= 0 && i < list->n;
    return has ? list->item[i].value : NULL;
}

const char *oz_node_text(const oz_node *v, const char *otherwise) { return v && v->kind == OZ_NODE_TEXT ? v->text : otherwise; }

int64_t oz_node_int(const oz_node *v, int64_t otherwise)
{
    if (v && v->kind == OZ_NODE_INT) return v->integer;
    /* 1e5 and 4096.0 are whole numbers spelled as reals */
    if (v && v->kind == OZ_NODE_REAL && v->real >= -9007199254740992.0 && v->real <= 9007199254740992.0 &&
        v->real == (double)(int64_t)v->real)
        return (int64_t)v->real;
    return otherwise;
}

double oz_node_real(const oz_node *v, double otherwise)
{
    return v && (v->kind == OZ_NODE_REAL || v->kind == OZ_NODE_INT) ? v->real : otherwise;
}

bool oz_node_bool(const oz_node *v, bool otherwise) { return v && v->kind == OZ_NODE_BOOL ? v->integer != 0 : otherwise; }

oz_node *oz_node_new(oz_arena *a, oz_node_kind kind)
{
    oz_node *v = oz_arena_zalloc(a, sizeof *v);
    if (!v) return NULL;
    v->kind = kind;
    if ((kind == OZ_NODE_LIST || kind == OZ_NODE_MAP) && !(v->item = oz_node_items(a, 0))) return NULL;
    return v;
}

oz_node *oz_node_map(oz_arena *a) { return oz_node_new(a, OZ_NODE_MAP); }
oz_node *oz_node_list(oz_arena *a) { return oz_node_new(a, OZ_NODE_LIST); }

static oz_status add(oz_node *to, const char *key, oz_node *value, oz_arena *a)
{
    if (!value) return OZ_ERR_NOMEM; /* the value could not be made; its maker left the message */
    if (to->n == INT32_MAX)
        return oz_fail(OZ_ERR_RANGE, NULL, "a %s of %d values is full", to->kind == OZ_NODE_MAP ? "map" : "list", to->n);
    size_t room = room_for(to->n);
    if (!to->item || (size_t)to->n == room) {
        oz_pair *more = oz_arena_zalloc(a, room_for(to->n + 1) * sizeof *more);
        if (!more) return OZ_ERR_NOMEM;
        if (to->n) memcpy(more, to->item, (size_t)to->n * sizeof *more);
        to->item = more;
    }
    const char *name = NULL;
    if (key && !(name = oz_arena_strdup(a, key))) return OZ_ERR_NOMEM;
    to->item[to->n++] = (oz_pair){name, value};
    return OZ_OK;
}

oz_status oz_node_put(oz_node *map, const char *key, oz_node *value, oz_arena *a)
{
    if (!map) return OZ_ERR_NOMEM;
    if (map->kind != OZ_NODE_MAP) return oz_fail(OZ_ERR_PARSE, NULL, "cannot set \"%s\": the value it would be set in is not a map", key);
    for (int i = 0; i < map->n && value; i++)
        if (!strcmp(map->item[i].key, key)) {
            map->item[i].value = value;
            return OZ_OK;
        }
    return add(map, key, value, a);
}

oz_status oz_node_push(oz_node *list, oz_node *value, oz_arena *a)
{
    if (!list) return OZ_ERR_NOMEM;
    if (list->kind != OZ_NODE_LIST)
        return oz_fail(OZ_ERR_PARSE, NULL, "cannot add a value of kind %d: the node it would be added to is not a list",
                       value ? (int)value->kind : -1);
    return add(list, NULL, value, a);
}

oz_node *oz_node_of_text(oz_arena *a, const char *text)
{
    oz_node *v = oz_node_new(a, OZ_NODE_TEXT);
    if (!v || !(v->text = oz_arena_strdup(a, text))) return NULL;
    v->length = strlen(text);
    return v;
}

oz_node *oz_node_of_int(oz_arena *a, int64_t i)
{
    oz_node *v = oz_node_new(a, OZ_NODE_INT);
    if (v) {
        v->integer = i;
        v->real = (double)i;
    }
    return v;
}

oz_node *oz_node_of_real(oz_arena *a, double x)
{
    bool finite = isfinite(x);
    oz_node *v = oz_node_new(a, finite ? OZ_NODE_REAL : OZ_NODE_NULL);
    if (v && finite) v->real = x;
    return v;
}

oz_node *oz_node_of_bool(oz_arena *a, bool b)
{
    oz_node *v = oz_node_new(a, OZ_NODE_BOOL);
    if (v) v->integer = b;
    return v;
}

oz_node *oz_node_copy(oz_arena *a, const oz_node *from)
{
    if (!from) return NULL;
    oz_node *v = oz_arena_alloc(a, sizeof *v);
    if (!v) return NULL;
    *v = *from;
    if (from->text) { /* may hold NUL */
        char *text = oz_arena_alloc(a, from->length + 1);
        if (!text) return NULL;
        memcpy(text, from->text, from->length);
        text[from->length] = 0;
        v->text = text;
    }
    if (from->kind != OZ_NODE_LIST && from->kind != OZ_NODE_MAP) return v;
    if (!(v->item = oz_node_items(a, from->n))) return NULL;
    for (int i = 0; i < from->n; i++) {
        const char *key = from->item[i].key;
        if (key && !(key = oz_arena_strdup(a, key))) return NULL;
        oz_node *value = oz_node_copy(a, from->item[i].value);
        if (!value) return NULL;
        v->item[i] = (oz_pair){key, value};
    }
    return v;
}

/* Same kind and value; where the values came from, quotes and spelling do not count.  The order of a map's keys does not count. */
bool oz_node_equal(const oz_node *a, const oz_node *b)
{
    if (!a || !b) return a == b;
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case OZ_NODE_NULL:
        return true;
    case OZ_NODE_BOOL:
    case OZ_NODE_INT:
        return a->integer == b->integer;
    case OZ_NODE_REAL:
        return a->real == b->real || (a->real != a->real && b->real != b->real);
    case OZ_NODE_TEXT:
        return a->length == b->length && (a->length == 0 || !memcmp(a->text, b->text, a->length));
    case OZ_NODE_LIST:
    case OZ_NODE_MAP:
        break;
    }
    if (a->n != b->n) return false;
    for (int i = 0; i < a->n; i++) {
        const char *key = a->item[i].key;
        /* the common case, same order, first */
        const oz_node *other = a->kind == OZ_NODE_LIST || !strcmp(key, b->item[i].key) ? b->item[i].value : oz_node_get(b, key);
        if (!other || !oz_node_equal(a->item[i].value, other)) return false;
    }
    return true;
}
