// Digest of each segment of a tensor: two 32-bit sums of mix(index, bits) over its frozen elements, or over
// all elements if p.all is set. For a given index, mix maps different bits to different values, so a change
// of one element always changes both sums; integer sums do not depend on the order. Digest::of computes the
// same sums on the host. One workgroup per segment.
// uses: scalars, grid, Segment, Digest

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> segments: array<Segment>;
@group(0) @binding(3) var<storage, read> mask: array<u32>;
@group(0) @binding(4) var<storage, read> elements: array<u32>;
@group(0) @binding(5) var<storage, read_write> digests: array<Digest>;

var<workgroup> low_partial: array<u32, WORKGROUP>;
var<workgroup> high_partial: array<u32, WORKGROUP>;

fn mix(index: u32, bits: u32, salt: u32) -> u32 {
    var x = bits ^ (index * 0x9e3779b9u + salt);
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    return x ^ (x >> 16u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let segment_index = workgroup_index(group);
    let valid = segment_index < p.segments;
    let segment = segments[min(segment_index, p.segments - 1u)];
    var low = 0u;
    var high = 0u;
    for (var i = local; valid && i < segment.count; i += WORKGROUP) {
        let offset = segment.first + i;
        if (p.all != 0u || ((mask[offset >> 5u] >> (offset & 31u)) & 1u) == 1u) {
            low += mix(segment.index + i, elements[offset], 0x68bc21ebu);
            high += mix(segment.index + i, elements[offset], 0x02e5be93u);
        }
    }
    low_partial[local] = low;
    high_partial[local] = high;
    workgroupBarrier();
    if (local != 0u || !valid) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        low += low_partial[i];
        high += high_partial[i];
    }
    digests[segment_index] = Digest(low, high);
}
