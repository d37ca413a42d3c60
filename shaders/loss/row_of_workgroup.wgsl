// Loss kernels with one workgroup per row, for many classes: lane l processes every LANES-th class from l on.
// Every lane combines the values of all lanes in the same order, so that all get the same result.
// uses: grid

const LANES = WORKGROUP;

var<workgroup> of_lane: array<f32, WORKGROUP>;

fn row_index(group: vec3<u32>, local: u32) -> u32 {
    return workgroup_index(group);
}

fn lane_of(local: u32) -> u32 {
    return local;
}

fn sum_of_lanes(value: f32, lane: u32) -> f32 {
    of_lane[lane] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < WORKGROUP; i++) {
        sum += of_lane[i];
    }
    workgroupBarrier();
    return sum;
}

fn max_of_lanes(value: f32, lane: u32) -> f32 {
    of_lane[lane] = value;
    workgroupBarrier();
    var largest = of_lane[0];
    for (var i = 1u; i < WORKGROUP; i++) {
        largest = max(largest, of_lane[i]);
    }
    workgroupBarrier();
    return largest;
}

fn any_of_lanes(value: bool, lane: u32) -> bool {
    return max_of_lanes(select(0.0, 1.0, value), lane) > 0.0;
}
