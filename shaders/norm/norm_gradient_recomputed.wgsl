// The output gradient of a batch normalization with a fused ReLU gradient: dy where the ReLU output is above 0,
// else 0. The sign is computed again from x, which the kernel reads anyway, so that the ReLU output is not read and
// nothing is stored. Appends the shift to the sums, for the input gradient, which has no binding left for it.
// uses: norm_rectifier

@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(7) var<storage, read> scale: array<Element>;
@group(0) @binding(8) var<storage, read> shift: array<Element>;

fn gradient(offset: u32, column: u32) -> Element {
    let normalized = (x[offset] - mean[column]) * inv_std_or_variance[column];
    return rectified_gradient(dy[offset], normalized, scale[column], shift[column]);
}

fn append_to_sums(column: u32) {
    sums[2u * p.splits * matrix_columns() + column] = shift[column];
}
