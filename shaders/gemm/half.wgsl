// Rounds to f16. Finite values out of range are clamped to the largest f16, 65504, so that a finite loss
// keeps the weights finite. Compares bits, so that NaN and infinity propagate on every driver.
fn to_f16(x: vec4<f32>) -> vec4<f16> {
    let bits = bitcast<vec4<u32>>(x);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    let exceeds = (magnitude > vec4<u32>(0x477fe000u)) & (magnitude < vec4<u32>(0x7f800000u));
    let largest = (bits & vec4<u32>(0x80000000u)) | vec4<u32>(0x477fe000u);
    return vec4<f16>(bitcast<vec4<f32>>(select(bits, largest, exceeds)));
}
