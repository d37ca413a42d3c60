//! Implicit GEMM: gathers patches while it loads tiles, without a column matrix in memory.

use super::operands::{input_matrix, kernel_matrix, operands, output_matrix, result};
use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, GemmBuffers};
use crate::graph::Conv2d;
use crate::kernels::{Gemm, Source};

pub(super) fn forward(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [x, kernel] = operands(op);
    let gemm = Gemm {
        m: b.settings.batch * conv.window.outputs(),
        n: conv.c_out_per_group(),
        k: conv.depth(),
        a: input_matrix(conv, 0),
        source: Source::Patches(conv.window),
        b: kernel_matrix(conv),
        c: output_matrix(conv, 0),
        groups: conv.groups,
        m_per_row: conv.window.outputs(),
        ..Gemm::plain(0, 0, 0)
    };
    b.gemm_with_epilogue(op, &gemm, x, kernel);
}

/// Lowers an input gradient of stride 1: for each input pixel, the GEMM gathers the gradients of the output
/// pixels that this pixel contributes to.
pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [dy, kernel] = operands(op);
    let pixels = conv.window.input[0] * conv.window.input[1];
    let gemm = Gemm {
        m: b.settings.batch * pixels,
        n: conv.c_in_per_group(),
        k: conv.window.taps() * conv.c_out_per_group(),
        a: output_matrix(conv, 0),
        source: Source::Gradients(conv.window),
        b: kernel_matrix(conv),
        c: input_matrix(conv, 0),
        transpose_b: true,
        groups: conv.groups,
        m_per_row: pixels,
        ..Gemm::plain(0, 0, 0)
    };
    b.gemm_with_epilogue(op, &gemm, dy, kernel);
}

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [x, dy] = operands(op);
    let gemm = grad_kernel_gemm(b.settings.batch, conv, Source::Patches(conv.window));
    b.gemm(op, &gemm, &GemmBuffers::plain(x, dy, result(op)));
}

/// Returns the GEMM of a kernel gradient: transposed patches times output gradients, over the whole batch.
pub(super) fn grad_kernel_gemm(batch: usize, conv: &Conv2d, source: Source) -> Gemm {
    Gemm {
        m: conv.depth(),
        n: conv.c_out_per_group(),
        k: batch * conv.window.outputs(),
        a: input_matrix(conv, 0),
        source,
        b: output_matrix(conv, 0),
        c: kernel_matrix(conv),
        transpose_a: true,
        groups: conv.groups,
        k_per_row: conv.window.outputs(),
        ..Gemm::plain(0, 0, 0)
    }
}
