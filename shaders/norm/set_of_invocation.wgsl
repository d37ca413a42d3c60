// Short sets of elements: one invocation loops over all of them.
// uses: grid

const LANES = 1u;

fn set_index(group: vec3<u32>, local: u32) -> u32 {
    return invocation_index(group, local);
}

fn lane_of(local: u32) -> u32 {
    return 0u;
}

fn sum_of_lanes(value: f32, lane: u32) -> f32 {
    return value;
}
