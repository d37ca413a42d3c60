// Shared part of the RMSprop kernels; parameters as in kernels::rmsprop_update::Rule.
@group(0) @binding(10) var<storage, read_write> square_avg: array<vec4<u32>>;

// Computes v = alpha*v + (1-alpha)*g*g, stores it where not frozen, and returns it.
fn average_square(index: u32, frozen: u32, g: vec4<f32>) -> vec4<f32> {
    let old = square_avg[index];
    let v = p.alpha * bitcast<vec4<f32>>(old) + p.one_minus_alpha * g * g;
    square_avg[index] = keep_frozen(frozen, old, v);
    return v;
}
