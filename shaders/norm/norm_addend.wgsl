// The addition that is fused into a batch normalization.
@group(0) @binding(8) var<storage, read> addend: array<Element>;

fn added(index: u32, value: Element) -> Element {
    return value + addend[index];
}
