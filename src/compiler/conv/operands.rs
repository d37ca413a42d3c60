//! Layouts of a convolution's operands as matrices.

use crate::compiler::ir::Operation;
use crate::compiler::lower::Resource;
use crate::graph::Conv2d;
use crate::kernels::Matrix;

/// Returns the layout of the input images, beginning with image `first`, as a matrix `[pixels, c_in]`.
pub(super) fn input_matrix(conv: &Conv2d, first: usize) -> Matrix {
    let pixels = conv.window.input[0] * conv.window.input[1];
    Matrix { stride: conv.c_in, group: conv.c_in_per_group(), offset: first * pixels * conv.c_in }
}

/// Returns the layout of the output images, beginning with image `first`, as a matrix `[pixels, c_out]`.
pub(super) fn output_matrix(conv: &Conv2d, first: usize) -> Matrix {
    let offset = first * conv.window.outputs() * conv.c_out;
    Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset }
}

/// Returns the layout of the kernel as a matrix `[kernel_h * kernel_w * c_in / groups, c_out]`.
pub(super) fn kernel_matrix(conv: &Conv2d) -> Matrix {
    Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset: 0 }
}

/// Returns the two operands of an operation as resources.
pub(super) fn operands(op: &Operation) -> [Resource; 2] {
    [0, 1].map(|i| Resource::Value(op.node.inputs[i]))
}

/// Returns the result of an operation that has no fused epilogue.
pub(super) fn result(op: &Operation) -> Resource {
    Resource::Value(op.node.outputs[0])
}
