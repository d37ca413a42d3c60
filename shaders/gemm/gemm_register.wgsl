// C = op(A) * op(B): each invocation keeps a tile of OUTER*INNER rows x 4*COLUMNS4 results in registers. No workgroup memory,
// no barriers: right everywhere, and the faster choice where barriers cost more than loads.
// uses: gemm, scalars, grid, bits

alias ABlock = array<array<vec4<f32>, INNER>, OUTER>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = given;
    let rows = live(given.m, given.m_per_row, given.first_row);
    let depth = live_depth();
    let tiles_n = (given.n + 4u * COLUMNS4 - 1u) / (4u * COLUMNS4);
    let tile = invocation_number(group, local);
    let m = tile / tiles_n * OUTER * INNER;
    let n = tile % tiles_n * 4u * COLUMNS4;
    if (m >= rows) {
        return;
    }
    let at = bases(group.z);
    var sum: Tile;
    multiply(&sum, at, m, n, rows, split_first(group.z), split_end(group.z, depth));
    store_tile(&sum, at.c, m, n, rows, group.z);
}
