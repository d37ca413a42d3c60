// g += weight_decay*w; v = alpha*v + (1-alpha)*g*g; buf = momentum*buf + g / (sqrt(v) + epsilon);
// w -= learning_rate*buf, where not frozen.
@group(0) @binding(7) var<storage, read_write> buffers: array<vec4<u32>>;

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
    let w = bitcast<vec4<f32>>(old);
    let g = decayed_gradient_at(index, w);
    let v = average_square(index, frozen, g);
    let old_buffer = buffers[index];
    let buf = p.momentum * bitcast<vec4<f32>>(old_buffer) + g / (sqrt(v) + p.epsilon);
    buffers[index] = keep_frozen(frozen, old_buffer, buf);
    weights[index] = keep_frozen(frozen, old, w - learning_rate() * buf);
}
