// Linear index of a workgroup. A grid has at most 65,535 workgroups in x, so a longer grid is folded into
// rows of GRID_X workgroups (a generated constant) along y.
fn workgroup_index(group: vec3<u32>) -> u32 {
    return group.y * GRID_X + group.x;
}

fn invocation_index(group: vec3<u32>, local: u32) -> u32 {
    return workgroup_index(group) * WORKGROUP + local;
}
