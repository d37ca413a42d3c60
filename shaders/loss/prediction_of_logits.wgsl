// The predicted class of a row, for few classes: one invocation searches all of them.
@group(0) @binding(3) var<storage, read> logits: array<f32>;

fn predicted_class(row: u32) -> u32 {
    var best = 0u;
    for (var c = 1u; c < p.classes; c++) {
        if (logits[row * p.classes + c] > logits[row * p.classes + best]) {
            best = c;
        }
    }
    return best;
}
