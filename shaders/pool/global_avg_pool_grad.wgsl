// Gradient of global average pooling: dx[n, pixel, c] = dy[n, c] times 1/pixels. One invocation per element
// of dx.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let per_image = p.pixels * p.channels;
    if (index >= valid_count(p.images * per_image, per_image, 0u)) {
        return;
    }
    dx[index] = dy[index / per_image * p.channels + index % p.channels] * p.inverse;
}
