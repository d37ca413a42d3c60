// Weight of a class; 1 unless class weights are bound.
fn class_weight(c: u32) -> f32 {
    var weight = 1.0;
    if (WEIGHTED) {
        weight = class_weights[c];
    }
    return weight;
}
