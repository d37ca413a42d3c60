// An update by itself: of a range of an arena, from gradients in memory.
struct Params {
    first: u32,
    quads: u32,
    clip_value: f32,
    clip_by_norm: u32,
    rule: Rule,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> gradients: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let number = invocation_number(group, local);
    if (number >= p.quads || skipped()) {
        return;
    }
    let index = p.first + number;
    let frozen = frozen_bits(index);
    if (frozen != 15u) {
        update(index, frozen, gradient_at(index));
    }
}

// The gradient as the update is to see it: clipped by the norm over all, or each element to [-limit, limit]. The latter
// goes by bits, so that a NaN stays on every driver.
fn gradient_at(index: u32) -> vec4<f32> {
    let g = gradients[index];
    if (p.clip_by_norm != 0u) {
        return g * sums.clip_scale;
    }
    if (p.clip_value != 0.0) {
        let bits = bitcast<vec4<u32>>(g);
        let size = bits & vec4<u32>(0x7fffffffu);
        let limit = vec4<u32>(bitcast<u32>(p.clip_value));
        let over = (size > limit) & (size <= vec4<u32>(0x7f800000u));
        return bitcast<vec4<f32>>(select(bits, (bits & vec4<u32>(0x80000000u)) | limit, over));
    }
    return g;
}
