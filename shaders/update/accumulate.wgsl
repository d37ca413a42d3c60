// sum = share*g for the first batch of an update, sum + share*g for the others; and g = sum. Of one tensor.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let number = invocation_number(group, local);
    if (number >= p.elements) {
        return;
    }
    let index = p.first + number;
    var total = scalars.share * gradients[index];
    if (scalars.first == 0u) {
        total += sum[index];
    }
    sum[index] = total;
    gradients[index] = total;
}
