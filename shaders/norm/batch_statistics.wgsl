// Merges the splits' moments in order (Chan, Golub and LeVeque 1979): the mean, the biased variance, 1/sqrt(variance + epsilon).
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> moments: array<f32>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> inv_std: array<f32>;
@group(0) @binding(5) var<storage, read_write> variance: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    if (index >= p.channels) {
        return;
    }
    let rows = live(p.rows, p.rows_per_row, 0u);
    let length = (p.rows + p.splits - 1u) / p.splits;
    var merged = 0.0;
    var squares = 0.0;
    for (var s = 0u; s < p.splits; s++) {
        let begin = s * length;
        if (begin >= rows) {
            break;
        }
        let end = min(begin + length, rows);
        let part = moments[2u * s * p.channels + index];
        let delta = part - merged;
        let share = f32(end - begin) / f32(end);
        // The first split is taken as it is: its distance from the 0 that the sum begins with means nothing.
        merged = select(merged + delta * share, part, s == 0u);
        let between = select(delta * delta * f32(begin) * share, 0.0, s == 0u);
        squares += moments[(2u * s + 1u) * p.channels + index] + between;
    }
    let pixel_set = squares / f32(rows);
    mean[index] = merged;
    variance[index] = pixel_set;
    inv_std[index] = 1.0 / sqrt(pixel_set + p.epsilon);
}
