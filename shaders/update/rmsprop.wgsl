// Shared part of the RMSprop kernels; parameters as in kernels::rmsprop_update::Rule.
@group(0) @binding(10) var<storage, read_write> square_avg: array<vec4<u32>>;

// Returns alpha*v + (1-alpha)*g*g.
fn average_square(old: vec4<u32>, g: vec4<f32>) -> vec4<f32> {
    return p.alpha * bitcast<vec4<f32>>(old) + p.one_minus_alpha * g * g;
}
