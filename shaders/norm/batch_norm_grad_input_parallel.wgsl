// Input gradient (dX) of a batch normalization, as in batch_norm_grad_input. One workgroup per split and tile of
// columns. Each adds the splits of the gradients of scale and shift itself, which takes less time than a dispatch;
// the workgroups of the first split store these gradients. If RECTIFIED, the output gradient is that of a ReLU, as
// in norm_gradient_recomputed.wgsl, and the shift follows the sums.
// uses: grid, row_tiles, merged_norm_sums, norm_rectifier

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read> scale: array<Element>;
@group(0) @binding(5) var<storage, read> statistics: array<Element>;
@group(0) @binding(7) var<storage, read_write> dscale: array<Element>;
@group(0) @binding(8) var<storage, read_write> dshift: array<Element>;
@group(0) @binding(9) var<storage, read_write> dx: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let channels = matrix_columns();
    let step = lanes();
    let end = lane_end(at);
    let merged = merge_sums(at, local);
    if (at.used && at.lane == 0u && at.split == 0u) {
        dscale[at.column] = merged.scale;
        dshift[at.column] = merged.shift;
    }
    let rows = f32(valid_rows());
    let mean = statistics[p.first_mean / WIDTH + at.column];
    let inv_std = statistics[p.first_inv_std / WIDTH + at.column];
    let weight = scale[at.column];
    let factor = weight * inv_std;
    var offset = Element(0.0);
    if (RECTIFIED) {
        offset = sums[2u * p.splits * channels + at.column];
    }
    let shift_mean = merged.shift / rows;
    let scale_mean = merged.scale / rows;
    var r = at.split * p.rows_per_split + at.lane;
    // Eight loads per iteration, so that they are in flight at the same time.
    for (; r + 3u * step < end; r += 4u * step) {
        let index = r * channels + at.column;
        let x0 = x[index];
        let x1 = x[index + step * channels];
        let x2 = x[index + 2u * step * channels];
        let x3 = x[index + 3u * step * channels];
        let dy0 = dy[index];
        let dy1 = dy[index + step * channels];
        let dy2 = dy[index + 2u * step * channels];
        let dy3 = dy[index + 3u * step * channels];
        let n0 = (x0 - mean) * inv_std;
        let n1 = (x1 - mean) * inv_std;
        let n2 = (x2 - mean) * inv_std;
        let n3 = (x3 - mean) * inv_std;
        dx[index] = factor * (passed(dy0, n0, weight, offset) - shift_mean - n0 * scale_mean);
        dx[index + step * channels] = factor * (passed(dy1, n1, weight, offset) - shift_mean - n1 * scale_mean);
        dx[index + 2u * step * channels] = factor * (passed(dy2, n2, weight, offset) - shift_mean - n2 * scale_mean);
        dx[index + 3u * step * channels] = factor * (passed(dy3, n3, weight, offset) - shift_mean - n3 * scale_mean);
    }
    for (; r < end; r += step) {
        let index = r * channels + at.column;
        let normalized = (x[index] - mean) * inv_std;
        dx[index] = factor * (passed(dy[index], normalized, weight, offset) - shift_mean - normalized * scale_mean);
    }
}

// The gradient of the normalization's result: dy, or what a ReLU passed on if RECTIFIED.
fn passed(dy: Element, normalized: Element, weight: Element, offset: Element) -> Element {
    var result = dy;
    if (RECTIFIED) {
        result = rectified_gradient(dy, normalized, weight, offset);
    }
    return result;
}
