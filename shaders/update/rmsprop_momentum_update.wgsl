// g += weight_decay*w; v = alpha*v + (1-alpha)*g*g; buf = momentum*buf + g / (sqrt(v) + epsilon);
// w -= learning_rate*buf, where not frozen.
// uses: rmsprop, update, scalars, grid

@group(0) @binding(11) var<storage, read_write> buffers: array<vec4<u32>>;

fn update(index: u32, frozen: u32, gradient: vec4<f32>, factors: Factors) {
    let old = weights[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed(gradient, w, factors.weight_decay);
    let old_square = square_avg[index];
    let v = average_square(old_square, g);
    let old_buffer = buffers[index];
    let buf = p.momentum * bitcast<vec4<f32>>(old_buffer) + g / (sqrt(v) + p.epsilon);
    let updated = w - factors.learning_rate * buf;
    let kept =
        kept_bits(index, frozen, non_finite_bits(v) | non_finite_bits(buf) | non_finite_bits(updated));
    square_avg[index] = keep_frozen(kept, old_square, v);
    buffers[index] = keep_frozen(kept, old_buffer, buf);
    weights[index] = keep_frozen(kept, old, updated);
}
