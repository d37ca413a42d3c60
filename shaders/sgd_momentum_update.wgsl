// g += weight_decay*w; buf = momentum*buf + g; step = buf, or g + momentum*buf for Nesterov; w -= learning_rate*step,
// where not frozen.
struct Params {
    first: u32,
    quads: u32,
    rate_scale: f32,
    clip_value: f32,
    clip_by_norm: u32,
    weight_decay: f32,
    momentum: f32,
    nesterov: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(6) var<storage, read_write> buffers: array<vec4<u32>>;

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
    let old_buffer = buffers[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed_gradient_at(index, w);
    let buf = p.momentum * bitcast<vec4<f32>>(old_buffer) + g;
    let step = select(buf, g + p.momentum * buf, p.nesterov != 0u);
    buffers[index] = keep_frozen(frozen, old_buffer, buf);
    weights[index] = keep_frozen(frozen, old, w - learning_rate() * step);
}
