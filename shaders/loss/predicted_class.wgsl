// predictions[n] = the index of the first maximum of row n of the logits; a NaN is never the maximum, unless it
// is the first logit. For many classes: one workgroup per row, whose lanes each search a contiguous part of the
// classes.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> predictions: array<u32>;

var<workgroup> best_of_lane: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = workgroup_index(group);
    let base = row * p.classes;
    // No early return: all invocations of a workgroup must reach the barrier.
    let classes = select(0u, p.classes, row < valid_count(p.rows, 1u, 0u));
    let per_lane = (p.classes + WORKGROUP - 1u) / WORKGROUP;
    var best = 0u;
    for (var c = local * per_lane; c < min((local + 1u) * per_lane, classes); c++) {
        if (logits[base + c] > logits[base + best]) {
            best = c;
        }
    }
    best_of_lane[local] = best;
    workgroupBarrier();
    if (local != 0u || classes == 0u) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        if (logits[base + best_of_lane[i]] > logits[base + best]) {
            best = best_of_lane[i];
        }
    }
    predictions[row] = best;
}
