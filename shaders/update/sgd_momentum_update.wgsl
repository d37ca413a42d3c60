// g += weight_decay*w; buf = momentum*buf + g; step = buf, or g + momentum*buf for Nesterov; w -=
// learning_rate*step, where not frozen.
// uses: update, scalars, grid

@group(0) @binding(10) var<storage, read_write> buffers: array<vec4<u32>>;

fn update(index: u32, frozen: u32, gradient: vec4<f32>, factors: Factors) {
    let old = weights[index];
    let old_buffer = buffers[index];
    let w = bitcast<vec4<f32>>(old);
    let g = decayed(gradient, w, factors.weight_decay);
    let buf = p.momentum * bitcast<vec4<f32>>(old_buffer) + g;
    let step = select(buf, g + p.momentum * buf, p.nesterov != 0u);
    let updated = w - factors.learning_rate * step;
    let kept = kept_bits(index, frozen, non_finite_bits(buf) | non_finite_bits(updated));
    buffers[index] = keep_frozen(kept, old_buffer, buf);
    weights[index] = keep_frozen(kept, old, updated);
}
