// g += weight_decay*w; v = alpha*v + (1-alpha)*g*g; mean = alpha*mean + (1-alpha)*g;
// w -= learning_rate*g / (sqrt(v - mean*mean) + epsilon), where not frozen.
// uses: rmsprop, update, scalars, bits, grid

@group(0) @binding(11) var<storage, read_write> grad_avg: array<vec4<u32>>;

fn update(index: u32, frozen: u32, gradient: vec4<f32>, factors: Factors) {
    let old = weights[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed(gradient, w, factors.weight_decay);
    let old_square = square_avg[index];
    let v = average_square(old_square, g);
    let old_mean = grad_avg[index];
    let mean = p.alpha * bitcast<vec4<f32>>(old_mean) + p.one_minus_alpha * g;
    let variance = v - mean * mean;
    // Rounding can make the variance negative; it is then replaced by 0. NaN propagates.
    let root = sqrt(select(variance, vec4<f32>(0.0), at_most_zero(variance))) + p.epsilon;
    let updated = w - factors.learning_rate * g / root;
    let kept =
        kept_bits(index, frozen, non_finite_bits(v) | non_finite_bits(mean) | non_finite_bits(updated));
    square_avg[index] = keep_frozen(kept, old_square, v);
    grad_avg[index] = keep_frozen(kept, old_mean, mean);
    weights[index] = keep_frozen(kept, old, updated);
}
