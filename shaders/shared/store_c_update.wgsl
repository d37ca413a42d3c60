// Results are gradients, and each goes into the update of its element instead of to memory. C is the weights' arena.
fn bias4(column: u32) -> vec4<f32> {
    return vec4<f32>(0.0);
}

fn store_c4(index: u32, count: u32, shift: vec4<f32>, gradient: vec4<f32>) {
    let at = index >> 2u;
    let frozen = frozen_bits(at);
    if (frozen != 15u && !skipped()) {
        update(at, frozen, gradient);
    }
}
