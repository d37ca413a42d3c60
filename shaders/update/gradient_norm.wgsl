// Partial sums for the gradient norm: parts[p.first_part + i] = the i-th partial sum of squares over a range
// of gradients. Covers the elements that are not frozen, or all elements if p.over_all is set. A frozen
// element is replaced by 0 with an integer select, so that a NaN in it has no effect. The order of summation
// is fixed.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> gradients: array<u32>;
@group(0) @binding(4) var<storage, read_write> parts: array<f32>;

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let part_index = workgroup_index(group);
    var total = 0.0;
    if (part_index < p.groups && scalars.last != 0u) {
        for (var i = part_index * WORKGROUP + local; i < p.elements; i += p.groups * WORKGROUP) {
            let offset = p.first + i;
            let frozen = (((mask[offset >> 5u] >> (offset & 31u)) & 1u) == 1u) & (p.over_all == 0u);
            let g = bitcast<f32>(select(gradients[offset], 0u, frozen));
            total += g * g;
        }
    }
    partial[local] = total;
    workgroupBarrier();
    if (local != 0u || part_index >= p.groups) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        total += partial[i];
    }
    parts[p.first_part + part_index] = total;
}
