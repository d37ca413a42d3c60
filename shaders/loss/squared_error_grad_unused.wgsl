// A squared error without its gradient.

fn store_gradient(index: u32, difference: f32) {
}
