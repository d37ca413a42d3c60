// C = op(A) * op(B) with subgroup broadcasts: the lanes of a workgroup share OUTER*INNER rows of A, and each
// lane computes those rows x 4*COLUMNS4 columns in registers. A lane loads its part of A and reads the rest
// by broadcast from LANES lanes, at most the size of the smallest subgroup. Which part a lane loads depends
// on the layout of A: see gemm_subgroup_rows.wgsl and gemm_subgroup_columns.wgsl.
// uses: gemm, b_rows, scalars, grid, bits

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
    p = uniform_params;
    let rows = valid_count(uniform_params.m, uniform_params.m_per_example, uniform_params.first_example);
    let depth = valid_depth();
    // In a narrow GEMM (QUAD_ROWS), each quad of four lanes computes its own rows.
    let lanes_per_tile = select(WORKGROUP, 4u, QUAD_ROWS);
    let tile_columns = 4u * COLUMNS4 * lanes_per_tile;
    let tiles_n = (uniform_params.n + tile_columns - 1u) / tile_columns;
    let tile = workgroup_index(group);
    let first = tile / tiles_n * OUTER * INNER * (WORKGROUP / lanes_per_tile);
    let m = first + local / lanes_per_tile * OUTER * INNER;
    let n = tile % tiles_n * tile_columns + local % lanes_per_tile * 4u * COLUMNS4;
    // Either the whole workgroup returns here or none of it. Lanes beyond the last row or column stay active,
    // because other lanes read from them.
    if (first >= rows) {
        return;
    }
    let lane = subgroup_lane & (LANES - 1u);
    let base = group_bases(group.z);
    var sum: Tile;
    var bias_grad_sum: Row;
    multiply(&sum, &bias_grad_sum, base, m, n, rows, split_begin(group.z), split_end(group.z, depth), lane);
    store_tile(&sum, base.c, m, n, rows, group.z);
    store_bias_grad(&bias_grad_sum, m, n, group.z);
}
