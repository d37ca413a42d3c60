// A grid too long for x (65,535 workgroups at most) is folded into y; GRID_X is generated.
fn group_number(group: vec3<u32>) -> u32 {
    return group.y * GRID_X + group.x;
}

fn invocation_number(group: vec3<u32>, local: u32) -> u32 {
    return group_number(group) * WORKGROUP + local;
}
