// Global average pooling: y[n, s, c] = the sum of x[n, pixel, c] over the pixels of split s in ascending order,
// times p.factor. With one split, and 1/pixels as the factor, y is the mean. Otherwise a second dispatch adds
// the sums of the splits, as the pixels of one split. One invocation per element of y.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let sums = p.splits * p.channels;
    if (index >= valid_count(p.images * sums, sums, 0u)) {
        return;
    }
    let split = index / p.channels % p.splits;
    let end = min((split + 1u) * p.pixels_per_split, p.pixels);
    let first = index / sums * p.pixels * p.channels + index % p.channels;
    var sum = 0.0;
    for (var pixel = split * p.pixels_per_split; pixel < end; pixel++) {
        sum += x[first + pixel * p.channels];
    }
    y[index] = sum * p.factor;
}
