// g += weight_decay*w; v = alpha*v + (1-alpha)*g*g; mean = alpha*mean + (1-alpha)*g;
// w -= learning_rate*g / (sqrt(v - mean*mean) + epsilon), where not frozen.
@group(0) @binding(7) var<storage, read_write> grad_avg: array<vec4<u32>>;

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
    let old_mean = grad_avg[index];
    let mean = p.alpha * bitcast<vec4<f32>>(old_mean) + p.one_minus_alpha * g;
    grad_avg[index] = keep_frozen(frozen, old_mean, mean);
    let variance = v - mean * mean;
    // Rounding can bring it below 0; a NaN stays.
    let root = sqrt(select(variance, vec4<f32>(0.0), at_most_zero(variance))) + p.epsilon;
    weights[index] = keep_frozen(frozen, old, w - learning_rate() * g / root);
}
