// Gradient clipping by the global norm: norm = the square root of the sum of all partial sums of squares;
// clip_scale = min(1, max_norm / (norm + 1e-6)), or NaN if the norm is NaN. Runs in one workgroup, so that
// the order of summation is fixed.
// uses: scalars, bits, Sums

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> parts: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: Sums;

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
    var total = 0.0;
    for (var i = local; i < p.parts; i += WORKGROUP) {
        total += parts[i];
    }
    partial[local] = total;
    workgroupBarrier();
    if (local != 0u || scalars.last == 0u) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        total += partial[i];
    }
    if (is_nan(total)) {
        sums.norm = total;
        sums.clip_scale = total;
        return;
    }
    let norm = sqrt(total);
    sums.norm = norm;
    sums.clip_scale = 0.0;
    if (is_finite(norm)) {
        sums.clip_scale = min(1.0, p.max_norm / (norm + 1e-6));
    }
}
