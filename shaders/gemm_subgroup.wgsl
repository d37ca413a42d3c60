// C = op(A) * op(B): a workgroup shares ROWS rows of A; each lane keeps ROWS x 4*COLUMNS4 results in registers, loads
// its own part of A, and takes the rest from its neighbours. LANES lanes share; it divides ROWS and is no larger than
// the smallest subgroup.

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
    let rows = live(p.m, p.m_per_row, p.first_row);
    let depth = live(p.k, p.k_per_row, p.first_row);
    let across = 4u * COLUMNS4 * WORKGROUP;
    let tiles_n = (p.n + across - 1u) / across;
    let tile = group_number(group);
    let m = tile / tiles_n * ROWS;
    let n = tile % tiles_n * across + local * 4u * COLUMNS4;
    // The whole workgroup leaves together; lanes beyond the last column stay, for their neighbours need them.
    if (m >= rows) {
        return;
    }
    let lane = subgroup_lane & (LANES - 1u);
    let at = bases(group.z);
    var sum: array<vec4<f32>, TILE>;
    let k_step = select(4u, LANES, A_TRANSPOSED);
    let whole = depth - depth % k_step;
    for (var k = 0u; k < whole; k += k_step) {
        if (A_TRANSPOSED) {
            // Lane l holds row k + l of the stored matrix: LANES steps of k at once.
            var share: array<vec4<f32>, ROWS4>;
            for (var q = 0u; q < ROWS4; q++) {
                share[q] = fetch_a4(at.a + (k + lane) * p.a_stride + m + 4u * q);
            }
            for (var kk = 0u; kk < LANES; kk++) {
                var row = b_row(at.b, k + kk, n);
                for (var i = 0u; i < ROWS; i++) {
                    let x = vec4<f32>(subgroupShuffle(share[i / 4u][i % 4u], kk));
                    for (var j = 0u; j < COLUMNS4; j++) {
                        sum[i * COLUMNS4 + j] = fma(x, row[j], sum[i * COLUMNS4 + j]);
                    }
                }
            }
        } else {
            // Lane l holds rows m + l, m + LANES + l, .. of the tile: four steps of k at once.
            var share: array<vec4<f32>, SHARES>;
            for (var q = 0u; q < SHARES; q++) {
                share[q] = fetch_a4(at.a + min(m + q * LANES + lane, rows - 1u) * p.a_stride + k);
            }
            var b_tile = b_block(at.b, k, n);
            for (var kk = 0u; kk < 4u; kk++) {
                for (var i = 0u; i < ROWS; i++) {
                    let x = vec4<f32>(subgroupShuffle(share[i / LANES][kk], i % LANES));
                    for (var j = 0u; j < COLUMNS4; j++) {
                        sum[i * COLUMNS4 + j] = fma(x, b_tile[kk * COLUMNS4 + j], sum[i * COLUMNS4 + j]);
                    }
                }
            }
        }
    }
    for (var k = whole; k < depth; k++) {
        var row = b_row(at.b, k, n);
        for (var i = 0u; i < ROWS; i++) {
            let x = vec4<f32>(one_a(at.a, min(m + i, rows - 1u), k));
            for (var j = 0u; j < COLUMNS4; j++) {
                sum[i * COLUMNS4 + j] = fma(x, row[j], sum[i * COLUMNS4 + j]);
            }
        }
    }
    for (var i = 0u; i < ROWS; i++) {
        if (m + i < rows) {
            var values: array<vec4<f32>, COLUMNS4>;
            for (var j = 0u; j < COLUMNS4; j++) {
                values[j] = sum[i * COLUMNS4 + j];
            }
            store_row(at.c, m + i, n, group.z, values);
        }
    }
}
