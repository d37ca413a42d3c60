// The weight of a class: 1, unless weights are bound.
fn class_weight(c: u32) -> f32 {
    if (WEIGHTED) {
        return class_weights[c];
    }
    return 1.0;
}
