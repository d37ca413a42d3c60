// What is done to each result: nothing (0), the bias of its column added (1), then ReLU (2). Without a bias, anything may be
// bound in its place.
@group(0) @binding(5) var<storage, read> bias: array<f32>;

fn bias4(column: u32) -> vec4<f32> {
    if (p.epilogue == 0u) {
        return vec4<f32>(0.0);
    }
    let last = arrayLength(&bias) - 1u;
    return vec4<f32>(
        bias[min(column, last)],
        bias[min(column + 1u, last)],
        bias[min(column + 2u, last)],
        bias[min(column + 3u, last)],
    );
}

fn epilogue(value: vec4<f32>, shift: vec4<f32>) -> vec4<f32> {
    // Not value + 0: -0.0 would become 0.
    let sum = select(value + shift, value, p.epilogue == 0u);
    // `select` and not `max`: a NaN must stay visible, and max(NaN, 0) is 0 on some drivers.
    return select(sum, vec4<f32>(0.0), vec4<bool>(p.epilogue == 2u) & at_most_zero(sum));
}
