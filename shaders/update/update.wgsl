// A masked update of a range of an arena. A rule has a struct Rule, its state, and `update` of four elements. Weights and state
// are bound as integers: a frozen element gets its own old bits back by an integer select, so no float arithmetic can reach it.
// Mask bits are 1 for frozen, and 1 in the gaps between tensors.
// uses: scalars, grid, Sums

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

@group(0) @binding(7) var<storage, read> mask: array<u32>;
@group(0) @binding(8) var<storage, read> sums: Sums;
@group(0) @binding(9) var<storage, read_write> weights: array<vec4<u32>>;

// Whether nothing is to be updated now: more batches are to come, or this loss, or an earlier one, was not finite.
fn skipped() -> bool {
    return (scalars.last == 0u) | ((sums.non_finite != 0u) & (scalars.on_non_finite_continue == 0u));
}

fn learning_rate() -> f32 {
    return scalars.learning_rate * p.rate_scale;
}

// A gradient with coupled decay. Without decay nothing is added: 0 times an infinite weight is NaN.
fn decayed(gradient: vec4<f32>, w: vec4<f32>) -> vec4<f32> {
    return select(gradient + p.weight_decay * w, gradient, p.weight_decay == 0.0);
}

// The mask bits of elements 4*index .. 4*index+3.
fn frozen_bits(index: u32) -> u32 {
    return (mask[index >> 3u] >> ((index & 7u) * 4u)) & 15u;
}

fn keep_frozen(frozen: u32, old: vec4<u32>, fresh: vec4<f32>) -> vec4<u32> {
    let is_frozen = (vec4<u32>(frozen) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>(0u);
    return select(bitcast<vec4<u32>>(fresh), old, is_frozen);
}
