// What the epilogue reads, four elements of a result row at once.
@group(0) @binding(5) var<storage, read> extra: array<vec4<f32>>;

fn extra4(index: u32) -> vec4<f32> {
    return extra[min(index >> 2u, arrayLength(&extra) - 1u)];
}
