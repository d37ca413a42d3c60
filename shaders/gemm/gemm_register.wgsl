// C = op(A) * op(B) in registers: each invocation computes OUTER*INNER rows x 4*COLUMNS4 columns. Uses
// neither workgroup memory nor barriers, so it works on every adapter, and is faster on adapters where
// barriers take more time than repeated loads.
// uses: gemm, b_rows, scalars, grid, bits

alias ABlock = array<array<vec4<f32>, INNER>, OUTER>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    p = uniform_params;
    let rows = valid_count(uniform_params.m, uniform_params.m_per_example, uniform_params.first_example);
    let depth = valid_depth();
    let tiles_n = (uniform_params.n + 4u * COLUMNS4 - 1u) / (4u * COLUMNS4);
    let tile = invocation_index(group, local);
    let m = tile / tiles_n * OUTER * INNER;
    let n = tile % tiles_n * 4u * COLUMNS4;
    if (m >= rows) {
        return;
    }
    let base = group_bases(group.z);
    var sum: Tile;
    multiply(&sum, base, m, n, rows, split_begin(group.z), split_end(group.z, depth));
    store_tile(&sum, base.c, m, n, rows, group.z);
}
