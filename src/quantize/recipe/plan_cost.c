/* What a plan costs: bytes of the output, working memory, disk and an estimate of the time.
 *
 * Memory of a block: its weights as they are mapped (in f32 when folds change them), its result, the statistics of its inputs (a
 * Hessian takes 8 n^2 bytes), and the larger of: one linear being solved, the activations of one chunk of sequences.  Hidden states
 * live in files and stream through. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ounce/machine.h"
#include "quantize/recipe/recipe_internal.h"

int64_t oz_chunk_sequences(int64_t length)
{
    int64_t n = 4096 / length;
    return n < 1 ? 1 : n;
}

uint32_t oz_plan_wants(const oz_plan *p, int linear)
{
    const oz_plan_linear *l = &p->linear[linear];
    uint32_t wants = 0;
    if (l->pass && l->pass->verb == OZ_VERB_QUANTIZE && l->spec) {
        if (l->pass->solver->needs & OZ_NEEDS_HESSIAN) wants |= OZ_WANT_H | OZ_WANT_MEAN;
        wants |= l->pass->fit->wants;
        if (l->pass->side) wants |= l->pass->side->wants;
    }
    if (l->has_act && l->act.is_static) wants |= OZ_WANT_CHANNEL;
    return wants;
}

static double stored_bits(const oz_plan *p, const oz_weights *w, int i)
{
    const oz_plan_linear *l = &p->linear[i];
    const oz_linear_row *row = &p->arch->linear[i];
    if (l->spec) return l->bits;
    double weights = (double)row->out * (double)row->in;
    const oz_tensor *t = row->src.tensor ? oz_ckpt_find(oz_weights_ckpt(w), row->src.tensor) : NULL;
    if (t && t->ggml_type != OZ_GGML_NONE && p->options.gguf) return 8.0 * (double)t->bytes / (double)oz_tensor_count(t) * weights;
    return weights * (t && t->ggml_type == OZ_GGML_NONE ? 8.0 * (double)oz_dtype_size(t->dtype) : 16.0);
}

/* Does an earlier linear of the block read the same input? Then both share its statistics. */
static bool shares(const oz_plan *p, int i)
{
    const oz_linear_row *row = &p->arch->linear[i];
    for (int k = i - 1; k >= 0 && p->arch->linear[k].layer == row->layer; k--) {
        const oz_linear_row *other = &p->arch->linear[k];
        if (other->stage == row->stage && other->expert == row->expert && other->in == row->in && (oz_plan_wants(p, k) & OZ_WANT_H))
            return true;
    }
    return false;
}

/* Bytes while one linear is solved: its weights in f32 (in f64 too while folds run), the solver's own. */
static double solving(const oz_plan *p, int i, bool folds)
{
    const oz_linear_row *row = &p->arch->linear[i];
    const oz_pass *pass = p->linear[i].pass;
    double n = (double)row->out * (double)row->in, bytes = n * 4;
    if (pass && pass->solver && pass->solver->scratch)
        return bytes + fmax(folds ? n * 8 : 0, pass->solver->scratch(pass->solver_opt, row->out, row->in));
    return bytes + n * (folds ? 12 : 9);
}

oz_status oz_plan_cost(oz_plan *p, const oz_weights *w)
{
    const oz_arch *arch = p->arch;
    const oz_dims *d = &arch->dims;
    double linear_bits = 0, linear_weights = 0, file_bits = 0, weights = 0;
    for (int i = 0; i < arch->nlinear; i++) {
        if (i == arch->head && arch->head != arch->embed && d->tied) continue;
        double n = (double)arch->linear[i].out * (double)arch->linear[i].in, bits = stored_bits(p, w, i);
        if (p->linear[i].spec && arch->linear[i].layer >= 0) linear_bits += bits, linear_weights += n;
        file_bits += bits, weights += n;
    }
    for (int i = 0; i < arch->nvector; i++) file_bits += 32.0 * (double)arch->vector[i].n, weights += (double)arch->vector[i].n;
    p->bpw_linears = linear_weights > 0 ? linear_bits / linear_weights : 0;
    p->bpw_file = weights > 0 ? file_bits / weights : 0;
    p->file_bytes = (uint64_t)(file_bits / 8);

    /* streams */
    double block_weights = 0, hessians = 0, solve_flops = 0;
    bool folds = false;
    for (int k = 0; k < p->recipe->npass; k++) {
        const oz_pass *pass = &p->recipe->pass[k];
        folds = folds || (pass->enabled && pass->verb == OZ_VERB_TRANSFORM);
        if (pass->enabled && pass->verb == OZ_VERB_TRANSFORM && pass->transform->wants && pass->transform->wants(pass->transform_opt))
            p->reads_ref = true;
    }
    for (int i = 0; i < arch->nlinear; i++) {
        const oz_linear_row *row = &arch->linear[i];
        const oz_plan_linear *l = &p->linear[i];
        uint32_t wants = oz_plan_wants(p, i);
        if (row->layer == 0) {
            block_weights += (double)row->out * (double)row->in;
            if ((wants & OZ_WANT_H) && !shares(p, i)) hessians += 8.0 * (double)row->in * (double)row->in;
        }
        if (!wants) continue;
        bool reference = l->pass && ((const oz_quantize_options *)l->pass->opt)->inputs == OZ_INPUTS_REFERENCE;
        if (reference)
            p->reads_ref = true;
        else
            p->reads_q = true;
        if (wants & OZ_WANT_H) solve_flops += (double)row->out * (double)row->in * (double)row->in * 2 + 2 * pow((double)row->in, 3);
    }
    double tokens = (double)p->samples * (double)p->length, chunk = (double)(oz_chunk_sequences(p->length ? p->length : 1) * p->length);
    double widest = (double)(d->ffn > d->heads * d->head_dim ? d->ffn : d->heads * d->head_dim);
    int streams = (p->reads_ref ? 1 : 0) + (p->reads_q ? 1 : 0);
    double stream_bytes = tokens * d->hidden * 4.0;
    /* one chunk passes while all statistics are open, or one linear is solved while those it and later ones read are */
    double held = hessians + (p->needs_calibration ? chunk * (4.0 * d->hidden + 3 * widest) * 4 : 0), results = 0, live = 0;
    for (int i = arch->nlinear - 1; i >= 0; i--) {
        const oz_linear_row *row = &arch->linear[i];
        if (row->layer > 0 || !p->linear[i].spec) continue;
        bool hessian = oz_plan_wants(p, i) & OZ_WANT_H;
        double own = hessian ? 8.0 * (double)row->in * (double)row->in : 0;
        if (row->layer == 0) results += p->linear[i].bits / 8;
        held = fmax(held, solving(p, i, folds) + (row->layer == 0 ? live + own : own));
        if (row->layer == 0 && hessian && !shares(p, i)) live += own;
    }
    p->memory_bytes = (uint64_t)(block_weights * (folds ? 4 : 2) + results + held + 64e6);
    p->disk_bytes = p->file_bytes * 2 + (uint64_t)(2 * streams * stream_bytes);

    oz_peaks peaks = {0};
    OZ_TRY(oz_machine_peaks(NULL, &peaks));
    double rate = peaks.f32_gflops * 1e9 * 0.6 + 1, blocks = p->options.layer1 < 0 ? d->layers : p->options.layer1 + 1;
    double forwards = p->needs_calibration ? (p->reads_q ? 2 : 0) + (p->reads_ref ? 1 : 0) : 0;
    p->seconds = (forwards * blocks * 2 * block_weights * tokens + solve_flops) / rate + (double)p->file_bytes / 2e8;
    return OZ_OK;
}
