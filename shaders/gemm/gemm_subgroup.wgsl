// C = op(A) * op(B): a workgroup shares OUTER*INNER rows of A; each lane keeps those x 4*COLUMNS4 results in registers,
// loads its own part of A, and takes the rest from its neighbours. LANES lanes share, no more than the smallest subgroup
// has. How they share depends on how A is stored: see shared/gemm_subgroup_rows.wgsl and .._columns.wgsl.
// uses: gemm, scalars, grid, bits

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
    p = given;
    let rows = live(given.m, given.m_per_row, given.first_row);
    let depth = live_depth();
    // Narrow products: each quad of lanes has rows of its own.
    let wide = select(WORKGROUP, 4u, QUADS);
    let across = 4u * COLUMNS4 * wide;
    let tiles_n = (given.n + across - 1u) / across;
    let tile = group_number(group);
    let first = tile / tiles_n * OUTER * INNER * (WORKGROUP / wide);
    let m = first + local / wide * OUTER * INNER;
    let n = tile % tiles_n * across + local % wide * 4u * COLUMNS4;
    // The whole workgroup leaves together; lanes beyond the last row or column stay, for their neighbours need them.
    if (first >= rows) {
        return;
    }
    let lane = subgroup_lane & (LANES - 1u);
    let at = bases(group.z);
    var sum: Tile;
    var column_sum: Row;
    multiply(&sum, &column_sum, at, m, n, rows, split_first(group.z), split_end(group.z, depth), lane);
    store_tile(&sum, at.c, m, n, rows, group.z);
    store_sums(&column_sum, m, n, group.z);
}
