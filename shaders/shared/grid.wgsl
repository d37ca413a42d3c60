// Linear indices in a grid that is folded into y, because a grid has at most 65,535 workgroups in x; GRID_X
// is a generated constant.
fn workgroup_index(group: vec3<u32>) -> u32 {
    return group.y * GRID_X + group.x;
}

fn invocation_index(group: vec3<u32>, local: u32) -> u32 {
    return workgroup_index(group) * WORKGROUP + local;
}
