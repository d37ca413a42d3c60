// The predicted class of a row, computed by predicted_class.wgsl.
@group(0) @binding(3) var<storage, read> predictions: array<u32>;

fn predicted_class(row: u32) -> u32 {
    return predictions[row];
}
