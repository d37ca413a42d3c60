// Batch normalization along the last axis: y = (x - mean)*inv_std*scale + shift, with the operations that are
// fused into it: the addition of another tensor (norm_addend.wgsl or norm_no_addend.wgsl), then a ReLU if
// RECTIFIED. If from_variance is set, inv_std_or_variance is a variance and inv_std is 1/sqrt(variance + epsilon).
// uses: scalars, grid, norm_relu, norm_rectifier

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> scale: array<Element>;
@group(0) @binding(4) var<storage, read> shift: array<Element>;
@group(0) @binding(5) var<storage, read> mean: array<Element>;
@group(0) @binding(6) var<storage, read> inv_std_or_variance: array<Element>;
@group(0) @binding(7) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    if (index * WIDTH >= valid_count(p.elements, p.per_example, 0u)) {
        return;
    }
    let channel = index % (p.channels / WIDTH);
    var inv_std = inv_std_or_variance[channel];
    if (p.from_variance != 0u) {
        inv_std = 1.0 / sqrt(inv_std + p.epsilon);
    }
    let normalized = (x[index] - mean[channel]) * inv_std;
    y[index] = rectified(added(index, affine(normalized, scale[channel], shift[channel])));
}
