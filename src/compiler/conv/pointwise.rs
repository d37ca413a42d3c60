//! 1x1 convolutions of stride 1 without groups, as GEMMs of the images `[n * h * w, c]`.

use super::implicit_gemm::grad_kernel_gemm;
use super::operands::{input_matrix, kernel_matrix, operands, output_matrix, result};
use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, GemmBuffers};
use crate::graph::Conv2d;
use crate::kernels::{Gemm, Source};

pub(super) fn forward(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [x, kernel] = operands(op);
    let gemm = Gemm {
        m: b.settings.batch * conv.window.outputs(),
        n: conv.c_out,
        k: conv.c_in,
        a: input_matrix(conv, 0),
        b: kernel_matrix(conv),
        c: output_matrix(conv, 0),
        m_per_row: conv.window.outputs(),
        ..Gemm::plain(0, 0, 0)
    };
    b.gemm_with_epilogue(op, &gemm, x, kernel);
}

pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [dy, kernel] = operands(op);
    let gemm = Gemm {
        m: b.settings.batch * conv.window.outputs(),
        n: conv.c_in,
        k: conv.c_out,
        a: output_matrix(conv, 0),
        b: kernel_matrix(conv),
        c: input_matrix(conv, 0),
        transpose_b: true,
        m_per_row: conv.window.outputs(),
        ..Gemm::plain(0, 0, 0)
    };
    b.gemm_with_epilogue(op, &gemm, dy, kernel);
}

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [x, dy] = operands(op);
    let gemm = grad_kernel_gemm(b.settings.batch, conv, Source::Matrix);
    b.gemm(op, &gemm, &GemmBuffers::plain(x, dy, result(op)));
}
