// g += weight_decay*w; sum += g*g; w -= learning_rate*g / (sqrt(sum) + epsilon), where not frozen.
// uses: update, scalars, grid

@group(0) @binding(10) var<storage, read_write> sum: array<vec4<u32>>;

fn update(index: u32, frozen: u32, gradient: vec4<f32>, factors: Factors) {
    let old = weights[index];
    let old_sum = sum[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed(gradient, w, factors.weight_decay);
    let s = bitcast<vec4<f32>>(old_sum) + g * g;
    let updated = w - factors.learning_rate * g / (sqrt(s) + p.epsilon);
    let kept = kept_bits(index, frozen, non_finite_bits(s) | non_finite_bits(updated));
    sum[index] = keep_frozen(kept, old_sum, s);
    weights[index] = keep_frozen(kept, old, updated);
}
