// running = (1 - momentum)*running + momentum*batch, where not frozen; the variance times n/(n-1) if it is to be unbiased.
struct Params {
    first: u32,
    elements: u32,
    per_example: u32,
    unbiased: u32,
    momentum: f32,
}
// Twin of the running sums of metrics.wgsl.
struct Sums {
    loss: f32,
    correct: u32,
    examples: u32,
    non_finite: u32,
    non_finite_step: u32,
    weight: f32,
    norm: f32,
    clip_scale: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> batch: array<f32>;
@group(0) @binding(4) var<storage, read> sums: Sums;
@group(0) @binding(5) var<storage, read_write> weights: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    // A step whose loss, or an earlier one's, was not finite moves nothing.
    if (index >= p.elements || (sums.non_finite != 0u && scalars.on_non_finite_continue == 0u)) {
        return;
    }
    let at = p.first + index;
    if (((mask[at >> 5u] >> (at & 31u)) & 1u) != 0u) {
        return;
    }
    let n = f32(scalars.rows * p.per_example);
    var fresh = batch[index];
    if (p.unbiased != 0u && n > 1.0) {
        fresh *= n / (n - 1.0);
    }
    weights[at] = bitcast<u32>((1.0 - p.momentum) * bitcast<f32>(weights[at]) + p.momentum * fresh);
}
