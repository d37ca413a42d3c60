// dlogits[n, c] = ((sum of t)*softmax(logits[n])[c] - t[c]) / (the sum of the labels' weights), with the target t of
// softmax_cross_entropy.wgsl: of the mean over the rows in use. One invocation a row.
// uses: softmax_row, scalars, grid, bits, class_weight

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = invocation_number(group, local);
    let rows = live(p.rows, 1u, 0u);
    if (row >= rows) {
        return;
    }
    var divisor = f32(rows);
    if (WEIGHTED) {
        // Every row adds them up in the same order.
        divisor = 0.0;
        for (var r = 0u; r < rows; r++) {
            divisor += class_weight(labels[r]);
        }
    }
    let base = row * p.classes;
    let r = softmax_row(base);
    let at_label = p.keep * class_weight(labels[row]);
    var total = at_label;
    if (p.pixel_set > 0.0) {
        var weights = 0.0;
        for (var c = 0u; c < p.classes; c++) {
            weights += class_weight(c);
        }
        total += p.pixel_set * weights;
    }
    for (var c = 0u; c < p.classes; c++) {
        let target_share = select(0.0, at_label, c == labels[row]) + p.pixel_set * class_weight(c);
        let value = (total * (exp(logits[base + c] - r.top) / r.sum) - target_share) / divisor;
        dlogits[base + c] = select(value, float_of(0x7fc00000u), r.poisoned);
    }
}
