// Masked optimizer update of ranges of an arena (one buffer that contains many tensors). Each update rule is
// a separate file: it appends its own parameters to Params, and defines its state buffers and the function
// `update`, which updates four elements. Weights and state are bound as integers: an integer select writes a
// frozen element's old bits back, so that float arithmetic cannot change them. A mask bit of 1 means frozen;
// the padding between tensors has mask bits of 1 as well. An element whose new weight or state is not finite
// keeps its old bits, too, and stops later updates.
// uses: scalars, grid, ranges, Sums

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> gradients: array<vec4<f32>>;

// Factors of the range that an element belongs to.
struct Factors {
    learning_rate: f32,
    weight_decay: f32,
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(group);
    // A range is (its first workgroup, first vector, number of vectors, whether its gradients are clipped), then
    // (the bits of its learning-rate factor, the bits of its weight decay, 0, 0).
    let row = 2u * range_of(workgroup);
    let range = p.table[row];
    let invocation = (workgroup - range.x) * WORKGROUP + local;
    if (invocation >= range.z || update_skipped()) {
        return;
    }
    let index = range.y + invocation;
    let frozen = frozen_bits(index);
    if (frozen != 15u) {
        let factors = bitcast<vec2<f32>>(p.table[row + 1u].xy);
        let gradient = clipped_gradient(index, range.w != 0u);
        update(index, frozen, gradient, Factors(scalars.learning_rate * factors.x, factors.y));
    }
}

// Returns the gradient, if `clipped` clipped by the global norm, or by value to [-clip_value, clip_value].
// Clipping by value compares bits, so that NaN propagates on every driver.
fn clipped_gradient(index: u32, clipped: bool) -> vec4<f32> {
    let g = gradients[index];
    if (!clipped) {
        return g;
    }
    if (p.clip_by_norm != 0u) {
        return g * sums.clip_scale;
    }
    let bits = bitcast<vec4<u32>>(g);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    let limit = vec4<u32>(bitcast<u32>(p.clip_value));
    let exceeds = (magnitude > limit) & (magnitude <= vec4<u32>(0x7f800000u));
    return bitcast<vec4<f32>>(select(bits, (bits & vec4<u32>(0x80000000u)) | limit, exceeds));
}

@group(0) @binding(7) var<storage, read> mask: array<u32>;
@group(0) @binding(8) var<storage, read_write> sums: Sums;
@group(0) @binding(9) var<storage, read_write> weights: array<vec4<u32>>;

// Whether to skip the update: this is not the last batch of an accumulated update, or the loss of this step
// or of an earlier one was not finite.
fn update_skipped() -> bool {
    return (scalars.last == 0u) | ((sums.non_finite != 0u) & (scalars.on_non_finite_continue == 0u));
}

// Gradient with coupled weight decay. If the decay is 0, nothing is added, because 0 times an infinite weight
// is NaN.
fn decayed(gradient: vec4<f32>, w: vec4<f32>, decay: f32) -> vec4<f32> {
    return select(gradient + decay * w, gradient, decay == 0.0);
}

// Mask bits of elements 4*index .. 4*index+3; 1 means frozen.
fn frozen_bits(index: u32) -> u32 {
    return (mask[index >> 3u] >> ((index & 7u) * 4u)) & 15u;
}

fn keep_frozen(frozen: u32, old: vec4<u32>, updated: vec4<f32>) -> vec4<u32> {
    let is_frozen = (vec4<u32>(frozen) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>(0u);
    return select(bitcast<vec4<u32>>(updated), old, is_frozen);
}

// Bits of the elements that are NaN or infinite.
fn non_finite_bits(x: vec4<f32>) -> u32 {
    let exponent = vec4<u32>(0x7f800000u);
    let non_finite = (bitcast<vec4<u32>>(x) & exponent) == exponent;
    let bits = select(vec4<u32>(0u), vec4<u32>(1u, 2u, 4u, 8u), non_finite);
    return bits.x | bits.y | bits.z | bits.w;
}

// Returns the bits of the elements to keep: the frozen ones, and unless updates continue after a loss that is
// not finite, those in `non_finite`. If there are any, records the group of elements and the step, after
// which updates are skipped.
fn kept_bits(index: u32, frozen: u32, non_finite: u32) -> u32 {
    let rejected = non_finite & ~frozen;
    if (rejected == 0u || scalars.on_non_finite_continue != 0u) {
        return frozen;
    }
    atomicMax(&sums.rejected, 0xffffffffu - (p.first_group + index));
    atomicStore(&sums.rejected_step, scalars.step);
    return frozen | rejected;
}
