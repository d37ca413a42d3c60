// vec4 loads of the epilogue operand (the bias, or a ReLU output), for rows of C whose length is a multiple
// of 4.
@group(0) @binding(5) var<storage, read> extra: array<vec4<f32>>;

fn extra4(index: u32) -> vec4<f32> {
    return extra[min(index >> 2u, arrayLength(&extra) - 1u)];
}
