// Stubs for a GEMM without a fused bias gradient.
fn add_to_bias_grad(bias_grad_sum: ptr<function, Row>, row: Row) {}

fn store_bias_grad(bias_grad_sum: ptr<function, Row>, m: u32, n: u32, z: u32) {}
