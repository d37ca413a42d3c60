// Input gradient (dX) of a batch normalization: dx = scale*inv_std*(dy - dshift/n - (x -
// mean)*inv_std*dscale/n), where n is the number of valid rows.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read> scale: array<Element>;
@group(0) @binding(5) var<storage, read> mean: array<Element>;
@group(0) @binding(6) var<storage, read> inv_std: array<Element>;
@group(0) @binding(7) var<storage, read> dscale: array<Element>;
@group(0) @binding(8) var<storage, read> dshift: array<Element>;
@group(0) @binding(9) var<storage, read_write> dx: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = valid_count(p.elements, p.per_example, 0u);
    if (index * WIDTH >= count) {
        return;
    }
    let c = index % (p.channels / WIDTH);
    let n = f32(count / p.channels);
    let normalized = (x[index] - mean[c]) * inv_std[c];
    dx[index] = scale[c] * inv_std[c] * (dy[index] - dshift[c] / n - normalized * (dscale[c] / n));
}
