// Fewer elements that are summed in the same dispatch, over the same number of slices.
@group(0) @binding(4) var<storage, read> beside: array<f32>;
@group(0) @binding(5) var<storage, read_write> results_beside: array<f32>;

fn sum_beside(index: u32) {
    if (index >= p.beside) {
        return;
    }
    var sum = beside[index];
    for (var slice = 1u; slice < p.slices; slice++) {
        sum += beside[slice * p.beside + index];
    }
    results_beside[index] = sum;
}
