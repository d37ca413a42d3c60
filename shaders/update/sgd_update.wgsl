// g += weight_decay*w; w -= learning_rate*g, where not frozen.
// uses: update, scalars, grid

fn update(index: u32, frozen: u32, gradient: vec4<f32>, factors: Factors) {
    let old = weights[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed(gradient, w, factors.weight_decay);
    let updated = w - factors.learning_rate * g;
    weights[index] = keep_frozen(kept_bits(index, frozen, non_finite_bits(updated)), old, updated);
}
