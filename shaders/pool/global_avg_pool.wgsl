// Global average pooling: y[n, c] = the sum of x[n, pixel, c] over the pixels in ascending order, times
// 1/pixels. One invocation per element of y.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    if (index >= valid_count(p.images * p.channels, p.channels, 0u)) {
        return;
    }
    let first = index / p.channels * p.pixels * p.channels + index % p.channels;
    var sum = 0.0;
    for (var pixel = 0u; pixel < p.pixels; pixel++) {
        sum += x[first + pixel * p.channels];
    }
    y[index] = sum * p.inverse;
}
