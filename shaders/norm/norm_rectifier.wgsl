// The affine part of a batch normalization, and the gradient of a ReLU after it.

// An explicit fma: compilers may contract a*b+c in one kernel and not in another, and the sign must be the same.
fn affine(normalized: Element, scale: Element, shift: Element) -> Element {
    return fma(normalized, scale, shift);
}

// Returns dy where the ReLU output is above 0, else 0, also where it is NaN.
fn rectified_gradient(dy: Element, normalized: Element, scale: Element, shift: Element) -> Element {
    return select(Element(0.0), dy, affine(normalized, scale, shift) > Element(0.0));
}
