// Returns the float with these bits. Used for NaN and infinity, which WGSL rejects in constant expressions; a
// function parameter is not a constant expression.
fn float_of(bits: u32) -> f32 {
    return bitcast<f32>(bits);
}

// Returns whether x is NaN. Compares bits, because `x != x` is false for NaN on some drivers.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_nan4(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Returns x <= 0 for each component, and false for NaN. Compares bits, so that the result for NaN is the same
// on every driver: true for the bits of -0.0 to minus infinity, and of +0.0.
fn at_most_zero(x: vec4<f32>) -> vec4<bool> {
    let bits = bitcast<vec4<u32>>(x);
    return (bits - vec4<u32>(0x80000000u) <= vec4<u32>(0x7f800000u)) | (bits == vec4<u32>(0u));
}
