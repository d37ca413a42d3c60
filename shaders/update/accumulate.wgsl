// Gradient accumulation for one tensor: sum = share*g in the first batch of an update, sum = sum + share*g in
// later batches; then g = sum. `share` is the batch's fraction of the examples of the update.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let invocation = invocation_index(group, local);
    if (invocation >= p.elements) {
        return;
    }
    let index = p.first + invocation;
    var total = scalars.share * gradients[index];
    if (scalars.first == 0u) {
        total += sum[index];
    }
    sum[index] = total;
    gradients[index] = total;
}
