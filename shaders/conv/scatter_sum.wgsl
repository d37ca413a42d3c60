// results[places[i]] = the sum of source[s][i] over the splits s, ascending; nothing where there is no place. One invocation a
// place.
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
    if (place == NO_INDEX) {
        return;
    }
    var sum = source[index];
    for (var split = 1u; split < p.splits; split++) {
        sum += source[split * p.count + index];
    }
    results[place] = sum;
}
