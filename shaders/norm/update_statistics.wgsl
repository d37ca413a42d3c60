// Running statistics of batch normalizations: running = (1 - momentum)*running + momentum*batch, where not
// frozen. An unbiased variance of n values is first multiplied by n/(n-1). A result that is not finite is not
// stored, and stops later updates.
// uses: scalars, grid, ranges, bits, Sums

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> batch: array<f32>;
@group(0) @binding(4) var<storage, read_write> sums: Sums;
@group(0) @binding(5) var<storage, read_write> weights: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let workgroup = workgroup_index(group);
    // A statistic is (its first workgroup, first element, number of elements, first batch value), then (values per
    // channel and example, whether it is unbiased, the bits of its momentum, 0).
    let row = 2u * range_of(workgroup);
    let range = p.table[row];
    let rule = p.table[row + 1u];
    let index = (workgroup - range.x) * WORKGROUP + local;
    // Skips the update if the loss of this step or of an earlier one was not finite.
    if (index >= range.z || (sums.non_finite != 0u && scalars.on_non_finite_continue == 0u)) {
        return;
    }
    let offset = range.y + index;
    if (((mask[offset >> 5u] >> (offset & 31u)) & 1u) != 0u) {
        return;
    }
    let n = f32(scalars.rows * rule.x);
    let momentum = bitcast<f32>(rule.z);
    var batch_value = batch[range.w + index];
    if (rule.y != 0u && n > 1.0) {
        batch_value *= n / (n - 1.0);
    }
    let updated = (1.0 - momentum) * bitcast<f32>(weights[offset]) + momentum * batch_value;
    if (!is_finite(updated) && scalars.on_non_finite_continue == 0u) {
        atomicMax(&sums.rejected, 0xffffffffu - (p.first_group + offset / 4u));
        atomicStore(&sums.rejected_step, scalars.step);
        return;
    }
    weights[offset] = bitcast<u32>(updated);
}
