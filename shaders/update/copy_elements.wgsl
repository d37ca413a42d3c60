// Copies single elements between a tensor and a list of them: list[i] = tensor[indices[i]], or with p.back
// tensor[indices[i]] = list[i]. No index occurs twice. Copies bits. A workgroup copies p.part elements, so that software
// drivers, where each workgroup costs about as much as a thousand elements, start few.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read_write> tensor: array<u32>;
@group(0) @binding(4) var<storage, read_write> list: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = workgroup_index(group) * p.part;
    let end = min(first + p.part, p.count);
    for (var i = first + local; i < end; i += WORKGROUP) {
        if (p.back != 0u) {
            tensor[indices[i]] = list[i];
        } else {
            list[i] = tensor[indices[i]];
        }
    }
}
