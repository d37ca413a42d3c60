// Epilogue of a split-K GEMM: the gradient of a ReLU, 0 where its output is not above 0.
@group(0) @binding(4) var<storage, read> activation: array<Element>;

fn finished(sum: Element, index: u32) -> Element {
    return select(Element(0.0), sum, activation[index] > Element(0.0));
}
