// Long sets of elements: one workgroup for each, lane l of which processes every LANES-th element from l on. Lanes are
// added in a tree of fixed order.
// uses: grid

const LANES = WORKGROUP;

var<workgroup> of_lane: array<f32, WORKGROUP>;

fn set_index(group: vec3<u32>, local: u32) -> u32 {
    return workgroup_index(group);
}

fn lane_of(local: u32) -> u32 {
    return local;
}

fn sum_of_lanes(value: f32, lane: u32) -> f32 {
    // Lanes may still read the sum of an earlier call.
    workgroupBarrier();
    of_lane[lane] = value;
    for (var stride = WORKGROUP / 2u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if (lane < stride) {
            of_lane[lane] += of_lane[lane + stride];
        }
    }
    workgroupBarrier();
    return of_lane[0];
}
