// What is done to each result: nothing (0), the bias of its column added (1), then ReLU (2), or, if RELU_GRAD, zero where a ReLU's
// result at the same place is not above 0. Where nothing is read, anything may be bound in its place.
// uses: bits

fn bias4(column: u32) -> vec4<f32> {
    var bias = vec4<f32>(0.0);
    if (!RELU_GRAD && p.epilogue != 0u) {
        bias = extra4(column);
    }
    return bias;
}

fn biased(value: vec4<f32>, shift: vec4<f32>) -> vec4<f32> {
    // Not value + 0: -0.0 would become 0.
    let sum = select(value + shift, value, p.epilogue == 0u);
    // `select` and not `max`: a NaN must stay visible, and max(NaN, 0) is 0 on some drivers.
    return select(sum, vec4<f32>(0.0), vec4<bool>(p.epilogue == 2u) & at_most_zero(sum));
}

fn epilogue(value: vec4<f32>, shift: vec4<f32>, index: u32) -> vec4<f32> {
    var result: vec4<f32>;
    if (RELU_GRAD) {
        result = select(vec4<f32>(0.0), value, extra4(index) > vec4<f32>(0.0));
    } else {
        result = biased(value, shift);
    }
    return result;
}
