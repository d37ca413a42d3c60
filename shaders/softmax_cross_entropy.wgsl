// loss[n] = log(sum over c of exp(logits[n, c] - max)) + max - logits[n, label]. One invocation a row.
struct Params {
    rows: u32,
    classes: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = invocation_number(group, local);
    if (row >= live(p.rows, 1u, 0u)) {
        return;
    }
    let base = row * p.classes;
    let r = softmax_row(base);
    let value = log_accurate(r.sum) + (r.top - logits[base + labels[row]]);
    loss[row] = select(value, bitcast<f32>(0x7fc00000u), r.poisoned);
}
