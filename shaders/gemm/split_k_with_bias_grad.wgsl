// Fewer elements that are summed in the same dispatch, over the same number of splits.
@group(0) @binding(4) var<storage, read> beside: array<f32>;
@group(0) @binding(5) var<storage, read_write> results_beside: array<f32>;

fn sum_beside(index: u32) {
    if (index >= p.beside) {
        return;
    }
    var sum = beside[index];
    for (var split = 1u; split < p.splits; split++) {
        sum += beside[split * p.beside + index];
    }
    results_beside[index] = sum;
}
