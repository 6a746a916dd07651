/* Prints a plan: what --dry-run shows, as text and as a node. */
#include <stdio.h>
#include <string.h>

#include "quantize/recipe/recipe_internal.h"

static oz_status put(oz_node *map, const char *key, oz_node *v, oz_arena *arena)
{
    return v ? oz_node_put(map, key, v, arena) : OZ_ERR_NOMEM;
}

static oz_status fill(const oz_plan *p, oz_node *root, oz_arena *arena)
{
    OZ_TRY(put(root, "recipe", oz_node_of_text(arena, p->recipe->name), arena));
    OZ_TRY(put(root, "fingerprint", oz_node_of_text(arena, p->fingerprint), arena));
    OZ_TRY(put(root, "bpw_linears", oz_node_of_real(arena, p->bpw_linears), arena));
    OZ_TRY(put(root, "bpw_file", oz_node_of_real(arena, p->bpw_file), arena));
    OZ_TRY(put(root, "bytes", oz_node_of_int(arena, (int64_t)p->file_bytes), arena));
    OZ_TRY(put(root, "memory_bytes", oz_node_of_int(arena, (int64_t)p->memory_bytes), arena));
    OZ_TRY(put(root, "disk_bytes", oz_node_of_int(arena, (int64_t)p->disk_bytes), arena));
    OZ_TRY(put(root, "seconds", oz_node_of_real(arena, p->seconds), arena));
    OZ_TRY(put(root, "samples", oz_node_of_int(arena, p->samples), arena));
    OZ_TRY(put(root, "length", oz_node_of_int(arena, p->length), arena));
    oz_node *list = oz_node_list(arena), *attention = oz_node_list(arena);
    if (!list || !attention) return OZ_ERR_NOMEM;
    for (int i = 0; i < p->arch->nlinear; i++) {
        const oz_plan_linear *l = &p->linear[i];
        const oz_linear_row *row = &p->arch->linear[i];
        if (!l->spec) continue;
        oz_node *t = oz_node_map(arena);
        if (!t) return OZ_ERR_NOMEM;
        OZ_TRY(put(t, "name", oz_node_of_text(arena, row->name), arena));
        OZ_TRY(put(t, "format", oz_node_of_text(arena, l->spec->text), arena));
        OZ_TRY(put(t, "pass", oz_node_of_text(arena, l->pass ? l->pass->name : "--tensor"), arena));
        OZ_TRY(put(t, "bpw", oz_node_of_real(arena, l->bits / ((double)row->out * (double)row->in)), arena));
        if (l->spec->nside) OZ_TRY(put(t, "columns", oz_node_of_int(arena, l->k), arena));
        if (l->has_act) OZ_TRY(put(t, "act", oz_node_of_text(arena, l->act.text), arena));
        OZ_TRY(oz_node_push(list, t, arena));
    }
    for (int i = 0; i < p->attention.n; i++) {
        oz_node *t = oz_node_map(arena);
        if (!t) return OZ_ERR_NOMEM;
        OZ_TRY(put(t, "kind", oz_node_of_text(arena, p->attention.a[i].kind), arena));
        OZ_TRY(put(t, "tensor", oz_node_of_text(arena, p->attention.a[i].tensor), arena));
        OZ_TRY(put(t, "message", oz_node_of_text(arena, p->attention.a[i].message), arena));
        OZ_TRY(oz_node_push(attention, t, arena));
    }
    OZ_TRY(oz_node_put(root, "tensors", list, arena));
    return oz_node_put(root, "attention", attention, arena);
}

oz_node *oz_plan_node(const oz_plan *p, oz_arena *arena)
{
    oz_node *root = oz_node_map(arena);
    return root && fill(p, root, arena) == OZ_OK ? root : NULL;
}

/* Runs of blocks whose linear of one role has the same format are one line. */
char *oz_plan_text(const oz_plan *p)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) {
        (void)oz_fail(OZ_ERR_NOMEM, NULL, "out of memory while printing the plan of %s", p->recipe->name);
        return NULL;
    }
    fprintf(f, "recipe      %s%s%s\n", p->recipe->name, p->recipe->title ? ": " : "", p->recipe->title ? p->recipe->title : "");
    if (p->needs_calibration)
        fprintf(f, "calibrates  on '%s', %lld samples of %lld tokens; reads %s%s%s\n",
                p->options.calib_text ? p->options.calib_text : p->recipe->text, (long long)p->samples, (long long)p->length,
                p->reads_ref ? "the reference stream" : "", p->reads_ref && p->reads_q ? " and " : "",
                p->reads_q ? "the quantized stream" : "");
    else
        fprintf(f, "calibrates  nothing: this plan needs no data\n");
    fprintf(f, "sweep       1 over %d blocks:", p->options.layer1 < 0 ? p->arch->dims.layers : p->options.layer1 - p->options.layer0 + 1);
    for (int k = 0; k < p->recipe->npass; k++)
        if (p->recipe->pass[k].enabled) fprintf(f, " %s", p->recipe->pass[k].name);
    fprintf(f, "\n\n%-14s %-8s %-28s %-16s %8s\n", "blocks", "linear", "format", "activations", "bpw");
    uint8_t *done = oz_zalloc((size_t)p->arch->nlinear, 1);
    for (int i = 0; done && i < p->arch->nlinear; i++) {
        const oz_plan_linear *l = &p->linear[i];
        const oz_linear_row *row = &p->arch->linear[i];
        if (done[i] || (!l->spec && !l->has_act)) continue;
        int first = row->layer, last = row->layer;
        double bits = 0, weights = 0;
        for (int j = i; j < p->arch->nlinear; j++) {
            const oz_plan_linear *m = &p->linear[j];
            const oz_linear_row *other = &p->arch->linear[j];
            if (done[j] || m->spec != l->spec || strcmp(other->role, row->role) || m->has_act != l->has_act) continue;
            if (other->layer > last + 1) break;
            done[j] = 1, last = other->layer;
            bits += m->bits, weights += (double)other->out * (double)other->in;
        }
        char blocks[32];
        if (first < 0)
            snprintf(blocks, sizeof blocks, "-");
        else if (first == last)
            snprintf(blocks, sizeof blocks, "%d", first);
        else
            snprintf(blocks, sizeof blocks, "%d-%d", first, last);
        fprintf(f, "%-14s %-8s %-28s %-16s ", blocks, row->role, l->spec ? l->spec->text : "as it is",
                l->has_act && l->act.text ? l->act.text : "-");
        if (l->spec)
            fprintf(f, "%8.4f\n", bits / weights);
        else
            fprintf(f, "%8s\n", "-");
    }
    oz_free(done);
    fprintf(f, "\nbpw         %.4f quantized linears, %.4f whole file\n", p->bpw_linears, p->bpw_file);
    fprintf(f, "bytes       %.1f MB output, %.1f MB memory, %.1f MB disk while working\n", (double)p->file_bytes / 1e6,
            (double)p->memory_bytes / 1e6, (double)p->disk_bytes / 1e6);
    fprintf(f, "time        about %.0f s on this machine\n", p->seconds);
    for (int i = 0; i < p->attention.n; i++)
        fprintf(f, "%s %s: %s: %s\n", i ? "           " : "attention  ", p->attention.a[i].kind, p->attention.a[i].tensor,
                p->attention.a[i].message);
    if (fclose(f)) {
        (void)oz_fail(OZ_ERR_NOMEM, NULL, "out of memory while printing the plan of %s", p->recipe->name);
        oz_free(text);
        return NULL;
    }
    return text;
}
