// What the RMSprop kernels share; twin of kernels::rmsprop_update::Params.
struct Params {
    first: u32,
    quads: u32,
    rate_scale: f32,
    clip_value: f32,
    clip_by_norm: u32,
    weight_decay: f32,
    alpha: f32,
    one_minus_alpha: f32,
    epsilon: f32,
    momentum: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(6) var<storage, read_write> square_avg: array<vec4<u32>>;

// v = alpha*v + (1-alpha)*g*g: stores it where not frozen, and gives it.
fn average_square(index: u32, frozen: u32, g: vec4<f32>) -> vec4<f32> {
    let old = square_avg[index];
    let v = p.alpha * bitcast<vec4<f32>>(old) + p.one_minus_alpha * g * g;
    square_avg[index] = keep_frozen(frozen, old, v);
    return v;
}
