// y = (x - mean)*inv_std*scale + shift along the last axis; where it is told so, pixel_set is a variance and not inv_std.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> scale: array<Element>;
@group(0) @binding(4) var<storage, read> shift: array<Element>;
@group(0) @binding(5) var<storage, read> mean: array<Element>;
@group(0) @binding(6) var<storage, read> pixel_set: array<Element>;
@group(0) @binding(7) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    if (index * WIDTH >= live(p.elements, p.per_row, 0u)) {
        return;
    }
    let channel = index % (p.channels / WIDTH);
    var inv_std = pixel_set[channel];
    if (p.from_variance != 0u) {
        inv_std = 1.0 / sqrt(inv_std + p.epsilon);
    }
    y[index] = (x[index] - mean[channel]) * inv_std * scale[channel] + shift[channel];
}
