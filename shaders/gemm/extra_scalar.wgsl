// Scalar loads of the epilogue operand (the bias, or a ReLU output), for rows of C of any length.
@group(0) @binding(5) var<storage, read> extra: array<f32>;

fn extra4(index: u32) -> vec4<f32> {
    let last = arrayLength(&extra) - 1u;
    return vec4<f32>(
        extra[min(index, last)],
        extra[min(index + 1u, last)],
        extra[min(index + 2u, last)],
        extra[min(index + 3u, last)],
    );
}
