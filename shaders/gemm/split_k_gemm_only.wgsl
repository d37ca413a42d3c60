// Nothing else is summed.
fn sum_beside(index: u32) {}
