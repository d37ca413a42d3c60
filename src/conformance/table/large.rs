//! Cases with tensors of the largest size that every adapter of WebGPU can bind.

use super::build::single;
use crate::conformance::case::{Case, DataKind, Fill, Operand};
use crate::graph::Op;

/// Rows and columns of a tensor of 128 MiB, the smallest limit of a binding in WebGPU, with the guard band of 256 bytes
/// that follows it. The number of columns is odd.
const ROWS: usize = 64;
const COLUMNS: usize = (128 << 20) / (4 * ROWS) - 1;

/// Elementwise results with fewer rows than the batch, the rows of a GEMM, and long sums. On integers, whose sums are exact.
/// Each case takes seconds, and up to 2 GB of memory for the reference. Larger tensors, of adapters with larger limits,
/// would need 16 times their size.
pub fn large_cases() -> Vec<Case> {
    let kind = DataKind::Integers;
    let rows = vec![Operand::batched(&[COLUMNS], Fill::Data)];
    let column = vec![Operand::batched(&[1], Fill::Data), Operand::fixed(&[1, ROWS], Fill::Data)];
    let sums = vec![Operand::batched(&[COLUMNS, ROWS], Fill::Data)];
    let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
    vec![
        single(format!("128 MiB: relu {ROWS} of [{COLUMNS}]"), Op::Relu, ROWS, rows, kind),
        single(format!("128 MiB: matmul {COLUMNS}x1 1x{ROWS}"), matmul, COLUMNS, column, kind),
        single(format!("128 MiB: bias_grad 1 of [{COLUMNS}, {ROWS}]"), Op::BiasGrad, 1, sums, kind),
    ]
}
