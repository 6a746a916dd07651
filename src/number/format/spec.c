/* number/format/spec.c: the one parser and the one printer of format strings.
 *
 *     format = item / "mix(" format *( "|" format ) ",unit=" unit ")"
 *     item   = GRID *( "." OPTION ) [ "@" GROUP ] [ ":" SCALE ] *( "+" SIDECAR )
 *     GROUP  = number / RxC / "row" / "tensor" / "token" / "head" / "channel" [ number ]
 *     SIDECAR = NAME [ "(" arguments ")" ]
 *
 * Options come from the format's table: a FLAG is its word, an ENUM its choice, an INT its word and digits ("k256"), a REAL its word
 * and a number in parentheses ("clip(0.9)").  Parentheses protect every separator.  The text may come from a file nobody trusts:
 * its length and its depth are bounded. */
#include "number/format/format_internal.h"
#include "ounce/linear.h"

#include <stdio.h>
#include <string.h>

#define LONGEST_TEXT 512
#define DEEPEST      4
#define MOST_SIDES   8
#define MOST_MEMBERS 16

typedef struct slice {
    const char *p;
    size_t n;
} slice;
typedef struct parser {
    const char *text, *where;
    oz_arena *arena;
} parser;

static bool slice_is(slice s, const char *word) { return strlen(word) == s.n && !memcmp(word, s.p, s.n); }
static char *slice_text(const parser *c, slice s) { return oz_arena_strndup(c->arena, s.p, s.n); }

/* First of `stops` outside parentheses, from p; the end when there is none. */
static const char *find_stop(const char *p, const char *end, const char *stops)
{
    int depth = 0;
    for (; p < end; p++) {
        if (*p == '(') depth++;
        if (*p == ')') depth--;
        if (!depth && strchr(stops, *p)) return p;
    }
    return end;
}

static oz_status bad(const parser *c, oz_status status, const char *hint, const char *what)
{
    return oz_fail(status, hint, "%s%sformat \"%s\": %s", c->where && *c->where ? c->where : "", c->where && *c->where ? ": " : "", c->text,
                   what);
}

/* "WHAT "word"", with the nearest candidate. */
static oz_status unknown(const parser *c, const char *what, slice word, const char *const *candidates, const char *hint)
{
    char name[64], message[256];
    snprintf(name, sizeof name, "%.*s", (int)(word.n < 60 ? word.n : 60), word.p);
    int k = candidates && candidates[0] ? oz_nearest(name, candidates) : -1;
    if (k >= 0)
        snprintf(message, sizeof message, "%s \"%s\"; nearest is \"%s\"", what, name, candidates[k]);
    else
        snprintf(message, sizeof message, "%s \"%s\"", what, name);
    return bad(c, OZ_ERR_KEY, hint, message);
}

/* ---- grid and options ---- */
static oz_status parse_grid(const parser *c, oz_spec *s, slice word)
{
    int n;
    const oz_format *const *all = oz_formats(&n);
    char shown[16][32];
    const char *names[17];
    int k = 0;
    for (int i = 0; i < n; i++) {
        void *opt = oz_arena_zalloc(c->arena, all[i]->entry.options_size + 1);
        if (!opt) return OZ_ERR_NOMEM;
        oz_options_init(&all[i]->entry, opt);
        if (all[i]->grid(word.p, word.n, opt)) {
            s->type = all[i];
            s->opt = opt;
            return OZ_OK;
        }
        if (k < 16) {
            all[i]->print_grid(opt, shown[k]);
            names[k] = shown[k];
            k++;
        }
    }
    names[k] = NULL;
    if (!word.n) return bad(c, OZ_ERR_PARSE, "a format begins with its grid: int4, f16, gguf.q4_0", "no grid is named");
    return unknown(c, "no format is called", word, names, "formats: int1 ... int8, f32, f16, bf16, gguf.TYPE");
}

/* Choices of all options of the table, as words; `names` keeps up to most. The text lives in the arena. */
static int option_words(const parser *c, const oz_entry *e, const char **names, int most)
{
    int n = 0;
    for (const oz_option *o = e->options; o && o->name; o++) {
        if (o->type == OZ_ENUM) {
            for (const char *p = o->choices; p && n < most;) {
                size_t len = strcspn(p, "|");
                char *w = oz_arena_strndup(c->arena, p, len);
                if (w) names[n++] = w;
                p = p[len] ? p + len + 1 : NULL;
            }
        } else if (o->word && n < most)
            names[n++] = o->word;
    }
    names[n] = NULL;
    return n;
}

static bool has_choice(const char *choices, slice w)
{
    for (const char *p = choices; p;) {
        size_t len = strcspn(p, "|");
        if (len == w.n && !memcmp(p, w.p, len)) return true;
        p = p[len] ? p + len + 1 : NULL;
    }
    return false;
}

static oz_status parse_option(const parser *c, oz_spec *s, slice w)
{
    const oz_entry *e = &s->type->entry;
    char *word = slice_text(c, w);
    char *where = oz_arena_printf(c->arena, "%s%sformat \"%s\"", c->where ? c->where : "", c->where && *c->where ? ": " : "", c->text);
    if (!word || !where) return OZ_ERR_NOMEM;
    for (const oz_option *o = e->options; o && o->name; o++) {
        if (o->type == OZ_ENUM && has_choice(o->choices, w)) return oz_option_set(e, s->opt, o->name, word, where, c->arena);
        if (!o->word) continue;
        size_t len = strlen(o->word);
        if (w.n < len || memcmp(w.p, o->word, len)) continue;
        if (o->type == OZ_FLAG && w.n == len) return oz_option_set(e, s->opt, o->name, "true", where, c->arena);
        if (o->type == OZ_INT && w.n > len && strspn(word + len, "0123456789") == w.n - len)
            return oz_option_set(e, s->opt, o->name, word + len, where, c->arena);
        if (o->type == OZ_REAL && w.n > len + 2 && w.p[len] == '(' && w.p[w.n - 1] == ')') {
            word[w.n - 1] = 0;
            return oz_option_set(e, s->opt, o->name, word + len + 1, where, c->arena);
        }
    }
    const char *names[65];
    char grid[32], what[80], hint[256];
    int n = option_words(c, e, names, 64);
    s->type->print_grid(s->opt, grid);
    snprintf(what, sizeof what, "%s has no option", grid);
    size_t used = (size_t)snprintf(hint, sizeof hint, "options are");
    for (int i = 0; i < n && used + strlen(names[i]) + 4 < sizeof hint; i++)
        used += (size_t)snprintf(hint + used, sizeof hint - used, "%s .%s", i ? "," : "", names[i]);
    if (!n) snprintf(hint, sizeof hint, "%s takes no options", grid);
    return unknown(c, what, w, names, hint);
}

/* ---- group and scale ---- */
#define LARGEST_GROUP (1 << 30)
static oz_status parse_group(const parser *c, oz_spec *s, slice w)
{
    static const struct {
        const char *word;
        oz_group_kind kind;
    } words[] = {{"row", OZ_GROUP_ROW},
                 {"tensor", OZ_GROUP_TENSOR},
                 {"token", OZ_GROUP_TOKEN},
                 {"head", OZ_GROUP_HEAD},
                 {"channel", OZ_GROUP_CHANNEL}};
    static const char *const names[] = {"row", "tensor", "token", "head", "channel", NULL};
    for (int i = 0; i < 5; i++)
        if (slice_is(w, words[i].word)) {
            s->group = (oz_group){words[i].kind, 1, 0};
            return OZ_OK;
        }
    char *text = slice_text(c, w);
    if (!text) return OZ_ERR_NOMEM;
    int64_t a, b;
    char *x = strchr(text, 'x');
    if (!strncmp(text, "channel", 7) && oz_parse_i64(text + 7, 1, LARGEST_GROUP, &a)) {
        s->group = (oz_group){OZ_GROUP_CHANNEL, 1, (int32_t)a};
        return OZ_OK;
    }
    if (x) *x = 0;
    if (x && oz_parse_i64(text, 1, LARGEST_GROUP, &a) && oz_parse_i64(x + 1, 1, LARGEST_GROUP, &b)) {
        s->group = a == 1 ? (oz_group){OZ_GROUP_NUMBER, 1, (int32_t)b} : (oz_group){OZ_GROUP_TILE, (int32_t)a, (int32_t)b};
        return OZ_OK;
    }
    if (!x && oz_parse_i64(text, 1, LARGEST_GROUP, &a)) {
        s->group = (oz_group){OZ_GROUP_NUMBER, 1, (int32_t)a};
        return OZ_OK;
    }
    if (w.n && w.p[0] >= '0' && w.p[0] <= '9')
        return unknown(c, "a group is a number of inputs from 1 to 1073741824 or ROWSxINPUTS, got", w, NULL, "@128, @2x128, @row");
    return unknown(c, "no group is called", w, names, "groups: a number, ROWSxINPUTS, row, tensor, token, head, channel");
}

static oz_status parse_scale(const parser *c, oz_spec *s, slice w)
{
    static const char *const names[] = {"f16", "f32", "bf16", "e8m0", "e4m3", "e5m2", "int8xrow", "f16xrow", "e4m3.p2", NULL};
    bool known = false;
    for (int i = 0; names[i]; i++) known = known || slice_is(w, names[i]);
    char *text = slice_text(c, w);
    if (!text) return OZ_ERR_NOMEM;
    int64_t v; /* intBxG: scales quantized in runs of G */
    char *x = strncmp(text, "int", 3) ? NULL : strchr(text, 'x');
    if (!known && x && oz_parse_i64(x + 1, 1, LARGEST_GROUP, &v)) {
        *x = 0;
        known = oz_parse_i64(text + 3, 1, 8, &v);
        *x = 'x';
    }
    if (!known) return unknown(c, "no scale type is called", w, names, "scale types: f16 (the default), f32, bf16");
    s->scale = text;
    return OZ_OK;
}

/* ---- sidecars ---- */
static oz_status parse_side(const parser *c, oz_sidecar_spec *side, slice w)
{
    int n;
    const oz_sidecar_type *const *all = oz_sidecar_types(&n);
    const char *names[17];
    const char *open = memchr(w.p, '(', w.n);
    slice name = {w.p, open ? (size_t)(open - w.p) : w.n};
    const oz_sidecar_type *type = NULL;
    for (int i = 0; i < n && i < 16; i++) {
        names[i] = all[i]->entry.name;
        if (slice_is(name, names[i])) type = all[i];
    }
    names[n < 16 ? n : 16] = NULL;
    if (!type) return unknown(c, "no sidecar is called", name, names, "sidecars: +cols(1%)");
    if (open && w.p[w.n - 1] != ')') return unknown(c, "parentheses do not close in", w, NULL, NULL);
    char *args = open ? oz_arena_strndup(c->arena, open + 1, (size_t)(w.p + w.n - 1 - open - 1)) : oz_arena_strdup(c->arena, "");
    void *opt = oz_arena_zalloc(c->arena, type->entry.options_size + 1);
    char *where = oz_arena_printf(c->arena, "%s%sformat \"%s\"", c->where ? c->where : "", c->where && *c->where ? ": " : "", c->text);
    if (!args || !opt || !where) return OZ_ERR_NOMEM;
    oz_options_init(&type->entry, opt);
    OZ_TRY(type->parse(args, opt, where, c->arena));
    char inner[128];
    type->print(opt, inner, sizeof inner);
    char *text = oz_arena_printf(c->arena, "%s(%s)", type->entry.name, inner);
    if (!text) return OZ_ERR_NOMEM;
    *side = (oz_sidecar_spec){type, opt, text};
    return OZ_OK;
}

/* ---- canonical text ---- */
static const char *group_text(const oz_group *g, char out[48])
{
    switch (g->kind) {
    case OZ_GROUP_DEFAULT:
        return "";
    case OZ_GROUP_ROW:
        return "@row";
    case OZ_GROUP_TENSOR:
        return "@tensor";
    case OZ_GROUP_TOKEN:
        return "@token";
    case OZ_GROUP_HEAD:
        return "@head";
    case OZ_GROUP_NUMBER:
        snprintf(out, 48, "@%d", g->cols);
        return out;
    case OZ_GROUP_TILE:
        snprintf(out, 48, "@%dx%d", g->rows, g->cols);
        return out;
    case OZ_GROUP_CHANNEL:
        if (!g->cols) return "@channel";
        snprintf(out, 48, "@channel%d", g->cols);
        return out;
    }
    return "";
}

static oz_status print_spec(oz_spec *s, oz_arena *arena)
{
    char *text;
    if (!s->type) {
        text = oz_arena_strdup(arena, "mix(");
        for (int i = 0; i < s->nmember && text; i++) text = oz_arena_printf(arena, "%s%s%s", text, i ? "|" : "", s->member[i]->text);
        if (text) text = oz_arena_printf(arena, "%s,unit=%s)", text, s->unit);
    } else {
        char grid[32], group[48];
        s->type->print_grid(s->opt, grid);
        text = oz_arena_strdup(arena, grid);
        for (const oz_option *o = s->type->entry.options; o && o->name && text; o++) {
            if (oz_option_is_default(o, s->opt)) continue;
            const char *v = oz_option_text(o, s->opt, arena);
            if (!v) return OZ_ERR_NOMEM;
            if (o->type == OZ_ENUM)
                text = oz_arena_printf(arena, "%s.%s", text, v);
            else if (o->word && o->type == OZ_FLAG)
                text = oz_arena_printf(arena, "%s.%s", text, o->word);
            else if (o->word && o->type == OZ_INT)
                text = oz_arena_printf(arena, "%s.%s%s", text, o->word, v);
            else if (o->word && o->type == OZ_REAL)
                text = oz_arena_printf(arena, "%s.%s(%s)", text, o->word, v);
        }
        if (text)
            text = oz_arena_printf(arena, "%s%s%s%s", text, group_text(&s->group, group), strcmp(s->scale, "f16") ? ":" : "",
                                   strcmp(s->scale, "f16") ? s->scale : "");
        for (int i = 0; i < s->nside && text; i++) text = oz_arena_printf(arena, "%s+%s", text, s->side[i].text);
    }
    s->text = text;
    return text ? OZ_OK : OZ_ERR_NOMEM;
}

/* ---- the grammar ---- */
static oz_status parse_item(const parser *c, oz_spec *s, const char *p, const char *end)
{
    const char *q = find_stop(p, end, ".@:+");
    OZ_TRY(parse_grid(c, s, (slice){p, (size_t)(q - p)}));
    while (q < end && *q == '.') {
        p = q + 1;
        q = find_stop(p, end, ".@:+");
        OZ_TRY(parse_option(c, s, (slice){p, (size_t)(q - p)}));
    }
    if (q < end && *q == '@') {
        p = q + 1;
        q = find_stop(p, end, "@:+");
        OZ_TRY(parse_group(c, s, (slice){p, (size_t)(q - p)}));
    }
    if (q < end && *q == ':') {
        p = q + 1;
        q = find_stop(p, end, "@:+");
        OZ_TRY(parse_scale(c, s, (slice){p, (size_t)(q - p)}));
    }
    oz_sidecar_spec side[MOST_SIDES];
    while (q < end && *q == '+') {
        if (s->nside == MOST_SIDES) return bad(c, OZ_ERR_RANGE, NULL, "more than 8 sidecars");
        p = q + 1;
        q = find_stop(p, end, "+");
        OZ_TRY(parse_side(c, &side[s->nside], (slice){p, (size_t)(q - p)}));
        for (int i = 0; i < s->nside; i++)
            if (side[i].type == side[s->nside].type) return unknown(c, "a sidecar stands twice:", (slice){p, (size_t)(q - p)}, NULL, NULL);
        s->nside++;
    }
    if (q < end)
        return unknown(c, "options, group, scale and sidecars stand in this order; out of place is", (slice){q, (size_t)(end - q)}, NULL,
                       "GRID.OPTION@GROUP:SCALE+SIDECAR, for example int4.asym@128:f32+cols(1%)");
    if (s->nside) {
        s->side = oz_arena_alloc(c->arena, sizeof side[0] * (size_t)s->nside);
        if (!s->side) return OZ_ERR_NOMEM;
        memcpy(s->side, side, sizeof side[0] * (size_t)s->nside);
    }
    const char *why = s->type->refuses ? s->type->refuses(s) : NULL;
    for (int i = 0; i < s->nside && !why; i++)
        if (s->side[i].type->refuses) why = s->side[i].type->refuses(s);
    return why ? bad(c, OZ_ERR_UNSUPPORTED, NULL, why) : OZ_OK;
}

static oz_status parse_format(const parser *c, oz_spec **out, const char *p, const char *end, int depth)
{
    oz_spec *s = oz_arena_zalloc(c->arena, sizeof *s);
    if (!s) return OZ_ERR_NOMEM;
    s->scale = "f16";
    if (end - p > 4 && !memcmp(p, "mix(", 4)) {
        if (depth >= DEEPEST) return bad(c, OZ_ERR_RANGE, NULL, "mix stands inside mix more than 4 deep");
        if (end[-1] != ')') return bad(c, OZ_ERR_PARSE, NULL, "the parentheses of mix do not close");
        const char *q = p + 4, *last = end - 1, *comma = find_stop(q, last, ",");
        static const char *const units[] = {"row", "group", "column-group", NULL};
        if (last - comma < 6 || memcmp(comma, ",unit=", 6))
            return bad(c, OZ_ERR_PARSE, "mix(int4@128|int8@128,unit=row)", "mix names its unit last: ,unit=row");
        slice unit = {comma + 6, (size_t)(last - comma - 6)};
        for (int i = 0; units[i]; i++)
            if (slice_is(unit, units[i])) s->unit = units[i];
        if (!s->unit) return unknown(c, "no unit of a mix is called", unit, units, NULL);
        oz_spec *member[MOST_MEMBERS];
        for (;; q++) {
            const char *stop = find_stop(q, comma, "|");
            if (s->nmember == MOST_MEMBERS) return bad(c, OZ_ERR_RANGE, NULL, "a mix has at most 16 members");
            OZ_TRY(parse_format(c, &member[s->nmember], q, stop, depth + 1));
            s->nmember++;
            q = stop;
            if (q >= comma) break;
        }
        s->member = oz_arena_alloc(c->arena, sizeof member[0] * (size_t)s->nmember);
        if (!s->member) return OZ_ERR_NOMEM;
        memcpy(s->member, member, sizeof member[0] * (size_t)s->nmember);
    } else {
        if (find_stop(p, end, "|,") != end)
            return bad(c, OZ_ERR_PARSE, "mix(int4@128|int8@128,unit=row)", "several formats stand inside mix(...)");
        OZ_TRY(parse_item(c, s, p, end));
    }
    OZ_TRY(print_spec(s, c->arena));
    *out = s;
    return OZ_OK;
}

oz_status oz_spec_parse(oz_spec **out, const char *text, const char *where, oz_arena *arena)
{
    parser c = {text, where, arena};
    size_t n = strnlen(text, LONGEST_TEXT + 1);
    if (n > LONGEST_TEXT) {
        c.text = oz_arena_printf(arena, "%.60s...", text);
        return c.text ? bad(&c, OZ_ERR_RANGE, NULL, "longer than 512 characters") : OZ_ERR_NOMEM;
    }
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '(') depth++;
        if (text[i] == ')' && --depth < 0) break;
        if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] > 126)
            return bad(&c, OZ_ERR_PARSE, NULL, "a space or a character that no format has");
    }
    if (depth) return bad(&c, OZ_ERR_PARSE, NULL, "the parentheses do not match");
    return parse_format(&c, out, text, text + n, 0);
}

bool oz_spec_equal(const oz_spec *a, const oz_spec *b) { return a == b || (a && b && !strcmp(a->text, b->text)); }
