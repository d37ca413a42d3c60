// Stores one element of the gradient of a mean over elements: the slope of the loss of the element / (number of valid
// elements).
// uses: scalars

@group(0) @binding(5) var<storage, read_write> dy: array<f32>;

fn store_gradient(index: u32, y: f32, t: f32) {
    dy[index] = element_loss_slope(y, t) / f32(valid_count(p.rows * p.per_example, p.per_example, 0u));
}
