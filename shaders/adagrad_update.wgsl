// g += weight_decay*w; sum += g*g; w -= learning_rate*g / (sqrt(sum) + epsilon), where not frozen.
struct Params {
    first: u32,
    quads: u32,
    rate_scale: f32,
    clip_value: f32,
    clip_by_norm: u32,
    weight_decay: f32,
    epsilon: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(6) var<storage, read_write> sum: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let number = invocation_number(group, local);
    if (number >= p.quads || skipped()) {
        return;
    }
    let index = p.first + number;
    let frozen = frozen_bits(index);
    if (frozen == 15u) {
        return;
    }
    let old = weights[index];
    let old_sum = sum[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed_gradient_at(index, w);
    let s = bitcast<vec4<f32>>(old_sum) + g * g;
    sum[index] = keep_frozen(frozen, old_sum, s);
    weights[index] = keep_frozen(frozen, old, w - learning_rate() * g / (sqrt(s) + p.epsilon));
}
