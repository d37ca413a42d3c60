// Adds the bias of each column, and ReLU if RELU (generated) says so.
@group(0) @binding(5) var<storage, read> bias: array<f32>;

fn bias4(column: u32) -> vec4<f32> {
    let last = arrayLength(&bias) - 1u;
    return vec4<f32>(
        bias[min(column, last)],
        bias[min(column + 1u, last)],
        bias[min(column + 2u, last)],
        bias[min(column + 3u, last)],
    );
}

fn epilogue(value: vec4<f32>, shift: vec4<f32>) -> vec4<f32> {
    let sum = value + shift;
    // `select` and not `max`: a NaN must stay visible, and max(NaN, 0) is 0 on some drivers.
    return select(sum, vec4<f32>(0.0), vec4<bool>(RELU) & at_most_zero(sum));
}
