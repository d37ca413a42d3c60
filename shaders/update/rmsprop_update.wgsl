// g += weight_decay*w; v = alpha*v + (1-alpha)*g*g; w -= learning_rate*g / (sqrt(v) + epsilon),
// where not frozen.
// uses: rmsprop, update, scalars, grid

fn update(index: u32, frozen: u32, gradient: vec4<f32>) {
    let old = weights[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed(gradient, w);
    let v = average_square(index, frozen, g);
    weights[index] = keep_frozen(frozen, old, w - learning_rate() * g / (sqrt(v) + p.epsilon));
}
