// loss[n] = the sum over c of t[c]*(log(sum of exp(logits[n] - max)) + max - logits[n, c]), where the target t[c] is
// weight[c]*pixel_set and at the label weight[label]*keep more. One invocation a row.
// uses: softmax_row, scalars, grid, bits, math, class_weight

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;

const PART: u32 = 32u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = invocation_number(group, local);
    if (row >= live(p.rows, 1u, 0u)) {
        return;
    }
    let base = row * p.classes;
    let r = softmax_row(base);
    let log_sum = log_accurate(r.sum);
    let label = labels[row];
    var value = p.keep * class_weight(label) * (log_sum + (r.top - logits[base + label]));
    // A class without any share, whose logit is minus infinity, costs nothing unless it has a part of the target.
    if (p.pixel_set > 0.0) {
        var others = 0.0;
        // In parts, for a long sum of much the same numbers rounds to the same side again and again.
        for (var first = 0u; first < p.classes; first += PART) {
            var part = 0.0;
            for (var c = first; c < min(first + PART, p.classes); c++) {
                part += class_weight(c) * (log_sum + (r.top - logits[base + c]));
            }
            others += part;
        }
        // With nothing kept, an infinite loss at the label would be 0 times infinity.
        value = select(0.0, value, p.keep > 0.0) + p.pixel_set * others;
    }
    loss[row] = select(value, float_of(0x7fc00000u), r.poisoned);
}
