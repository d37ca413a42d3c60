// m = beta1*m + (1-beta1)*g; v = beta2*v + (1-beta2)*g*g; w -= learning_rate * (m/correction1) /
// (sqrt(v/correction2) + epsilon), where not frozen. Weight decay is coupled (g += weight_decay*w), or
// decoupled (w -= learning_rate*weight_decay*w first).
// uses: update, scalars, grid

@group(0) @binding(10) var<storage, read_write> first_moment: array<vec4<u32>>;
@group(0) @binding(11) var<storage, read_write> second_moment: array<vec4<u32>>;

fn update(index: u32, frozen: u32, gradient: vec4<f32>, factors: Factors) {
    let old = weights[index];
    let old_first = first_moment[index];
    let old_second = second_moment[index];
    var w = bitcast<vec4<f32>>(old);
    var g = gradient;
    if (factors.weight_decay != 0.0) {
        if (p.decoupled != 0u) {
            w -= factors.learning_rate * factors.weight_decay * w;
        } else {
            g += factors.weight_decay * w;
        }
    }
    let m = p.beta1 * bitcast<vec4<f32>>(old_first) + p.one_minus_beta1 * g;
    let v = p.beta2 * bitcast<vec4<f32>>(old_second) + p.one_minus_beta2 * g * g;
    let correction = corrections(index);
    let root = sqrt(v / correction.second) + p.epsilon;
    let updated = w - factors.learning_rate * (m / correction.first) / root;
    let kept =
        kept_bits(index, frozen, non_finite_bits(m) | non_finite_bits(v) | non_finite_bits(updated));
    first_moment[index] = keep_frozen(kept, old_first, m);
    second_moment[index] = keep_frozen(kept, old_second, v);
    weights[index] = keep_frozen(kept, old, updated);
}
