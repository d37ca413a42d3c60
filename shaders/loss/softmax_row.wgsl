// What the softmax kernels share: the largest logit of a row, the sum of exp(logit - largest), and whether the row holds
// a NaN or an infinite maximum, which must reach the result whatever `max` and `exp` make of it on this driver. Minus
// infinity is a class without any share.
// uses: bits

struct Row {
    top: f32,
    sum: f32,
    poisoned: bool,
}

fn softmax_row(base: u32) -> Row {
    var row = Row(logits[base], 0.0, false);
    for (var c = 0u; c < p.classes; c++) {
        row.top = max(row.top, logits[base + c]);
        row.poisoned = row.poisoned | is_nan(logits[base + c]);
    }
    for (var c = 0u; c < p.classes; c++) {
        row.sum += exp(logits[base + c] - row.top);
    }
    row.poisoned = row.poisoned | !is_finite(row.top);
    return row;
}
