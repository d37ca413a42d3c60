// g += weight_decay*w; v = alpha*v + (1-alpha)*g*g; w -= learning_rate*g / (sqrt(v) + epsilon),
// where not frozen.
// uses: rmsprop, update, scalars, grid

fn update(index: u32, frozen: u32, gradient: vec4<f32>, factors: Factors) {
    let old = weights[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed(gradient, w, factors.weight_decay);
    let old_square = square_avg[index];
    let v = average_square(old_square, g);
    let updated = w - factors.learning_rate * g / (sqrt(v) + p.epsilon);
    let kept = kept_bits(index, frozen, non_finite_bits(v) | non_finite_bits(updated));
    square_avg[index] = keep_frozen(kept, old_square, v);
    weights[index] = keep_frozen(kept, old, updated);
}
