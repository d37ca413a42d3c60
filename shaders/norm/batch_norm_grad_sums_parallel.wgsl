// Partial gradients of scale and shift of a batch normalization: sums[2s][c] = the sum of dy*(x - mean)*inv_std
// over the rows of split s, and sums[2s + 1][c] = the sum of dy. The parallel variant of batch_norm_grad_sums: one
// workgroup per split and tile of columns. The files norm_gradient*.wgsl define dy. If from_variance is set,
// inv_std_or_variance is a variance and inv_std is 1/sqrt(variance + epsilon).
// uses: grid, row_tiles

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(4) var<storage, read> mean: array<Element>;
@group(0) @binding(5) var<storage, read> inv_std_or_variance: array<Element>;
@group(0) @binding(6) var<storage, read_write> sums: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let channels = matrix_columns();
    let step = lanes();
    let end = lane_end(at);
    let center = mean[at.column];
    var r = at.split * p.rows_per_split + at.lane;
    var scale_sum = Element(0.0);
    var shift_sum = Element(0.0);
    // Several loads per iteration, so that they are in flight at the same time.
    for (; r + 3u * step < end; r += 4u * step) {
        let offset = r * channels + at.column;
        let g0 = gradient(offset, at.column);
        let g1 = gradient(offset + step * channels, at.column);
        let g2 = gradient(offset + 2u * step * channels, at.column);
        let g3 = gradient(offset + 3u * step * channels, at.column);
        scale_sum += g0 * (x[offset] - center);
        scale_sum += g1 * (x[offset + step * channels] - center);
        scale_sum += g2 * (x[offset + 2u * step * channels] - center);
        scale_sum += g3 * (x[offset + 3u * step * channels] - center);
        shift_sum += g0;
        shift_sum += g1;
        shift_sum += g2;
        shift_sum += g3;
    }
    for (; r < end; r += step) {
        let g = gradient(r * channels + at.column, at.column);
        scale_sum += g * (x[r * channels + at.column] - center);
        shift_sum += g;
    }
    let scale_total = sum_of_lanes(local, scale_sum);
    let shift_total = sum_of_lanes(local, shift_sum);
    if (at.used && at.lane == 0u) {
        var inv_std = inv_std_or_variance[at.column];
        if (p.from_variance != 0u) {
            inv_std = 1.0 / sqrt(inv_std + p.epsilon);
        }
        sums[2u * at.split * channels + at.column] = scale_total * inv_std;
        sums[(2u * at.split + 1u) * channels + at.column] = shift_total;
        if (at.split == 0u) {
            append_to_sums(at.column);
        }
    }
}
