// Epilogue of each result, selected by p.epilogue: 0 = none, 1 = bias of the column, 2 = bias and ReLU, 3 =
// gradient of a ReLU: the result is 0 where the ReLU output at the same index (`extra`) is not above 0. This
// one is selected by the constant RELU_GRAD, unless ANY_EPILOGUE. If the epilogue reads no operand, any buffer
// may be bound as `extra`.
// uses: bits

// The value of p.epilogue.
const GRADIENT = 3u;

fn has_bias() -> bool {
    return (p.epilogue != 0u) & (!ANY_EPILOGUE | (p.epilogue != GRADIENT));
}

fn bias4(column: u32) -> vec4<f32> {
    var bias = vec4<f32>(0.0);
    if (!RELU_GRAD && has_bias()) {
        bias = extra4(column);
    }
    return bias;
}

fn biased(value: vec4<f32>, bias: vec4<f32>) -> vec4<f32> {
    // Without a bias, the value is selected unchanged, because adding 0 would turn -0.0 into 0.
    let sum = select(value, value + bias, has_bias());
    // `select`, not `max`: NaN must propagate, and max(NaN, 0) is 0 on some drivers.
    return select(sum, vec4<f32>(0.0), vec4<bool>(p.epilogue == 2u) & at_most_zero(sum));
}

fn epilogue(value: vec4<f32>, bias: vec4<f32>, index: u32) -> vec4<f32> {
    var result: vec4<f32>;
    if (RELU_GRAD) {
        result = select(vec4<f32>(0.0), value, extra4(index) > vec4<f32>(0.0));
    } else {
        result = biased(value, bias);
        if (ANY_EPILOGUE) {
            // A loop of 0 or 1 iterations instead of an `if`: software drivers execute both sides of an `if`.
            for (var once = 0u; once < p.epilogue / GRADIENT; once++) {
                result = select(vec4<f32>(0.0), value, extra4(index) > vec4<f32>(0.0));
            }
        }
    }
    return result;
}
