// results[i] = source[places[i]], or 0 where there is no place. One invocation an element.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read> source: array<f32>;
@group(0) @binding(4) var<storage, read_write> results: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    if (index >= p.count) {
        return;
    }
    let place = places[index];
    let somewhere = place != NO_INDEX;
    results[index] = select(0.0, source[select(0u, place, somewhere)], somewhere);
}
