// The ReLU that is fused into a batch normalization if RECTIFIED.
// uses: not_positive

// Returns 0 where RECTIFIED and value <= 0, else the value, also if that is NaN.
fn rectified(value: Element) -> Element {
    // A single return: otherwise DX12's FXC treats the result as varying.
    return select(value, Element(0.0), not_positive(value) & Flags(RECTIFIED));
}
