// Epilogues of Winograd convolutions, selected by p.epilogue: 0 = none, 1 = bias, 2 = bias and ReLU, 3 =
// gradient of a ReLU whose output is `extra`. If the epilogue reads no operand, any buffer may be bound as
// `extra`.
// uses: bits

const RELU_GRAD = 3u;

// Bias of four channels; 0 if the epilogue has none.
fn load_bias(channel: u32) -> vec4<f32> {
    // One return: FXC takes what follows an early return for divergent, and refuses barriers there.
    var bias = vec4<f32>(0.0);
    if (p.epilogue % RELU_GRAD != 0u) {
        bias = extra[channel / 4u];
    }
    return bias;
}

fn biased(sum: vec4<f32>, bias: vec4<f32>) -> vec4<f32> {
    // Without a bias, the sum is selected unchanged, because adding 0 would turn -0.0 into 0.
    let shifted = select(sum + bias, sum, p.epilogue % RELU_GRAD == 0u);
    return select(shifted, vec4<f32>(0.0), vec4<bool>(p.epilogue == 2u) & at_most_zero(shifted));
}

fn apply_epilogue(sum: vec4<f32>, bias: vec4<f32>, offset: u32) -> vec4<f32> {
    var result = biased(sum, bias);
    // A loop of 0 or 1 iterations instead of an `if`: software drivers execute both sides of an `if`.
    for (var once = 0u; once < p.epilogue / RELU_GRAD; once++) {
        result = select(vec4<f32>(0.0), result, extra[offset] > vec4<f32>(0.0));
    }
    return result;
}
