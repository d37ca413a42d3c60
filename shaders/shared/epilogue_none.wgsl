fn epilogue(value: vec4<f32>, column: u32) -> vec4<f32> {
    return value;
}
