// dx = inv_std * (dy - mean(dy) - normalized * mean(dy * normalized)) for each set of elements of an example. One
// invocation or workgroup per set.
// uses: element_set, scalars

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> normalized: array<f32>;
@group(0) @binding(3) var<storage, read> inv_std: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = set_index(group, local);
    let lane = lane_of(local);
    let length = valid_length(index);
    let first = first_element(index);
    var sum = 0.0;
    var products = 0.0;
    for (var i = lane; i < length; i += LANES) {
        let at = first + offset_of(i);
        sum += dy[at];
        products += dy[at] * normalized[at];
    }
    let mean = sum_of_lanes(sum, lane) / f32(p.length);
    let mean_product = sum_of_lanes(products, lane) / f32(p.length);
    for (var i = lane; i < length; i += LANES) {
        let at = first + offset_of(i);
        dx[at] = inv_std[index] * (dy[at] - mean - normalized[at] * mean_product);
    }
}
