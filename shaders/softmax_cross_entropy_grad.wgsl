// dlogits[n, c] = (softmax(logits[n])[c] - (c == label)) / rows: of the mean over the rows in use. One invocation a row.
struct Params {
    rows: u32,
    classes: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = invocation_number(group, local);
    let rows = live(p.rows, 1u, 0u);
    if (row >= rows) {
        return;
    }
    let base = row * p.classes;
    let r = softmax_row(base);
    for (var c = 0u; c < p.classes; c++) {
        let target_share = select(0.0, 1.0, c == labels[row]);
        let value = (exp(logits[base + c] - r.top) / r.sum - target_share) / f32(rows);
        dlogits[base + c] = select(value, bitcast<f32>(0x7fc00000u), r.poisoned);
    }
}
