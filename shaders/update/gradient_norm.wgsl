// parts[p.part + group] = the sum of squares of a part of a range of gradients: of the elements that are not frozen, or
// of all if p.over_all says so. Frozen ones are left out by an integer select, so that a NaN there is not seen. The order
// of the sum is fixed.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> gradients: array<u32>;
@group(0) @binding(4) var<storage, read_write> parts: array<f32>;

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let number = group_number(group);
    var total = 0.0;
    if (number < p.groups && scalars.last != 0u) {
        for (var i = number * WORKGROUP + local; i < p.elements; i += p.groups * WORKGROUP) {
            let at = p.first + i;
            let frozen = (((mask[at >> 5u] >> (at & 31u)) & 1u) == 1u) & (p.over_all == 0u);
            let g = bitcast<f32>(select(gradients[at], 0u, frozen));
            total += g * g;
        }
    }
    partial[local] = total;
    workgroupBarrier();
    if (local != 0u || number >= p.groups) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        total += partial[i];
    }
    parts[p.part + number] = total;
}
