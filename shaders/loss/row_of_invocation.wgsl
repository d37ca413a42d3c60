// Loss kernels with one invocation per row: the invocation loops over all classes.
// uses: grid

const LANES = 1u;

fn row_index(group: vec3<u32>, local: u32) -> u32 {
    return invocation_index(group, local);
}

fn lane_of(local: u32) -> u32 {
    return 0u;
}

fn sum_of_lanes(value: f32, lane: u32) -> f32 {
    return value;
}

fn max_of_lanes(value: f32, lane: u32) -> f32 {
    return value;
}

fn any_of_lanes(value: bool, lane: u32) -> bool {
    return value;
}
