// g += weight_decay*w; v = alpha*v + (1-alpha)*g*g; w -= learning_rate*g / (sqrt(v) + epsilon),
// where not frozen.

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
    weights[index] = keep_frozen(frozen, old, w - learning_rate() * g / (sqrt(v) + p.epsilon));
}
