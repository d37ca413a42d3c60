// The gradient of the soft cross-entropy without the loss. One invocation or workgroup per row.
// uses: soft_targets_grad_stored

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = row_index(group, local);
    let lane = lane_of(local);
    if (row >= valid_count(p.rows, 1u, 0u)) {
        return;
    }
    store_gradient(row, lane, softmax_row(row * p.classes, lane));
}
