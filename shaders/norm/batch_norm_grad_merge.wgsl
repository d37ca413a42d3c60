// Gradients of scale and shift of a batch normalization: adds the splits of batch_norm_grad_sums in ascending
// order. One invocation per Element (one channel, or four).
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> sums: array<Element>;
@group(0) @binding(3) var<storage, read_write> dscale: array<Element>;
@group(0) @binding(4) var<storage, read_write> dshift: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channel = invocation_index(group, local);
    let channels = p.channels / WIDTH;
    if (channel >= channels) {
        return;
    }
    var scale_sum = Element(0.0);
    var shift_sum = Element(0.0);
    for (var s = 0u; s < p.splits; s++) {
        scale_sum += sums[2u * s * channels + channel];
        shift_sum += sums[(2u * s + 1u) * channels + channel];
    }
    dscale[channel] = scale_sum;
    dshift[channel] = shift_sum;
}
