// Split-K reduction of the fused bias gradient, in the same dispatch as the reduction of C: bias_count
// elements, over the same number of splits.
@group(0) @binding(4) var<storage, read> bias_partials: array<f32>;
@group(0) @binding(5) var<storage, read_write> bias_grad: array<f32>;

fn sum_bias_grad(index: u32) {
    if (index >= p.bias_count) {
        return;
    }
    var sum = bias_partials[index];
    for (var split = 1u; split < p.splits; split++) {
        sum += bias_partials[split * p.bias_count + index];
    }
    bias_grad[index] = sum;
}
