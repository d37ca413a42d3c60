// Stores one element of the gradient of the mean squared error: 2*(y - targets) / (number of valid elements).
// uses: scalars

@group(0) @binding(5) var<storage, read_write> dy: array<f32>;

fn store_gradient(index: u32, difference: f32) {
    dy[index] = 2.0 * difference / f32(valid_count(p.rows * p.per_example, p.per_example, 0u));
}
