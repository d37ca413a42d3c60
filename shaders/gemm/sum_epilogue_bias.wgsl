// Epilogue of a split-K GEMM: adds the bias of the column, then applies a ReLU if RELU.
// uses: not_positive

@group(0) @binding(4) var<storage, read> bias: array<Element>;

fn finished(sum: Element, index: u32) -> Element {
    let biased = sum + bias[index % p.row_elements];
    return select(biased, Element(0.0), not_positive(biased) & Flags(RELU));
}
