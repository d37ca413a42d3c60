// g += weight_decay*w; w -= learning_rate*g, where not frozen.
// uses: update, scalars, grid

fn update(index: u32, frozen: u32, gradient: vec4<f32>) {
    let old = weights[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed(gradient, w);
    weights[index] = keep_frozen(frozen, old, w - learning_rate() * g);
}
