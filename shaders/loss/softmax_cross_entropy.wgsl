// loss[n] = the sum over c of t[c]*(log(sum of exp(logits[n] - max)) + max - logits[n, c]). With label
// smoothing the target t[c] is weight[c]*class_share, plus weight[label]*label_share at the label. One
// invocation or workgroup per row. The same dispatch may also compute the gradient: the files cross_entropy_grad*.wgsl
// define store_gradient.
// uses: softmax_row, scalars, bits, math, class_weight

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;

const BLOCK: u32 = 32u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = row_index(group, local);
    let lane = lane_of(local);
    if (row >= valid_count(p.rows, 1u, 0u)) {
        return;
    }
    let base = row * p.classes;
    let r = softmax_row(base, lane);
    let log_sum = log_accurate(r.sum);
    let label = labels[row];
    var value = p.label_share * class_weight(label) * (log_sum + (r.max_logit - logits[base + label]));
    // 0 times infinity is NaN, but a class of weight 0 adds nothing to the loss.
    value = select(0.0, value, class_weight(label) > 0.0);
    // Without smoothing, a class of probability 0 (a logit of minus infinity) adds nothing to the loss.
    if (p.class_share > 0.0) {
        var all_classes = 0.0;
        // Summed in blocks: the rounding errors of a long sum of similar numbers have the same sign and
        // accumulate.
        for (var first = lane * BLOCK; first < p.classes; first += LANES * BLOCK) {
            var block = 0.0;
            for (var c = first; c < min(first + BLOCK, p.classes); c++) {
                block += class_weight(c) * (log_sum + (r.max_logit - logits[base + c]));
            }
            all_classes += block;
        }
        all_classes = sum_of_lanes(all_classes, lane);
        // With a label share of 0, `value` is NaN (0 times infinity) if the loss at the label is infinite, so
        // it is replaced by 0.
        value = select(0.0, value, p.label_share > 0.0) + p.class_share * all_classes;
    }
    if (lane == 0u) {
        loss[row] = select(value, float_of(0x7fc00000u), r.non_finite);
    }
    store_gradient(row, lane, r);
}
