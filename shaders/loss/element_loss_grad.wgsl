// The gradient of a mean over elements without the loss. One invocation per element.
// uses: scalars, grid, element_loss_grad_stored

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    if (index >= valid_count(p.rows * p.per_example, p.per_example, 0u)) {
        return;
    }
    store_gradient(index, y[index], targets[index]);
}
