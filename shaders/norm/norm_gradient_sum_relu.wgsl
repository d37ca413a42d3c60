// The output gradient of a batch normalization with a fused ReLU gradient of a sum of two gradients: dy +
// other_dy where the ReLU output is above 0, else 0. Stores it for the operations that read it later.
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(7) var<storage, read> activation: array<Element>;
@group(0) @binding(8) var<storage, read_write> stored: array<Element>;
@group(0) @binding(9) var<storage, read> other_dy: array<Element>;

fn gradient(offset: u32, column: u32) -> Element {
    let sum = dy[offset] + other_dy[offset];
    let value = select(Element(0.0), sum, activation[offset] > Element(0.0));
    stored[offset] = value;
    return value;
}

fn append_to_sums(column: u32) {
}
