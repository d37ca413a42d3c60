// results[i] = source[indices[i]], or 0 where the index is NO_INDEX. One invocation per result.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read> source: array<f32>;
@group(0) @binding(4) var<storage, read_write> results: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    if (index >= p.count) {
        return;
    }
    let source_index = indices[index];
    let valid = source_index != NO_INDEX;
    results[index] = select(0.0, source[select(0u, source_index, valid)], valid);
}
