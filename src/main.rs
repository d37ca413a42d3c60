//! frazil
fn main() {}
