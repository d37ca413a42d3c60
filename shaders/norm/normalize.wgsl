// normalized = (x - mean) * inv_std for each set of elements of an example, and inv_std = 1 / sqrt(variance + epsilon).
// One invocation or workgroup per set. The mean is computed from differences to the first element of the set, so that
// a mean far from 0 does not reduce the precision.
// uses: element_set, scalars

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> normalized: array<f32>;
@group(0) @binding(4) var<storage, read_write> inv_std: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = set_index(group, local);
    let lane = lane_of(local);
    let length = valid_length(index);
    // A set that is not valid has no elements, and reads the first of the tensor.
    let first = select(0u, first_element(index), length > 0u);
    let origin = x[first];
    var sum = 0.0;
    for (var i = lane; i < length; i += LANES) {
        sum += x[first + offset_of(i)] - origin;
    }
    let mean = origin + sum_of_lanes(sum, lane) / f32(p.length);
    var squares = 0.0;
    for (var i = lane; i < length; i += LANES) {
        let deviation = x[first + offset_of(i)] - mean;
        squares += deviation * deviation;
    }
    let scale = 1.0 / sqrt(sum_of_lanes(squares, lane) / f32(p.length) + p.epsilon);
    for (var i = lane; i < length; i += LANES) {
        let at = first + offset_of(i);
        normalized[at] = (x[at] - mean) * scale;
    }
    if (length > 0u && lane == 0u) {
        inv_std[index] = scale;
    }
}
