//! Convolutions: one file for each algorithm, and the choice between them.

mod algorithm;
mod columns;
mod depthwise;
mod elements;
mod gather;
mod im2col;
mod implicit_gemm;
mod padded_channels;
mod pointwise;
mod rows;
mod strided_grad_input;
mod winograd;

pub use algorithm::Algorithm;
pub(super) use algorithm::{Choice, Pass, choose, fuses_pool, grad_input_has_epilogue};

use super::ir::Operation;
use super::lower::{Builder, Resource};
use super::passes::weight_gradient;
use crate::error::Result;
use crate::graph::Conv2d;
use crate::kernels::Matrix;

/// Lowers a forward convolution.
pub(super) fn forward(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Result<()> {
    match algorithm_of(b, op, conv, Pass::Forward) {
        Algorithm::Depthwise => depthwise::forward(b, op, conv),
        Algorithm::Winograd => winograd::forward(b, op, conv),
        Algorithm::PaddedChannels => padded_channels::forward(b, op, conv),
        Algorithm::ImplicitGemm => implicit_gemm::forward(b, op, conv),
        Algorithm::Pointwise => pointwise::forward(b, op, conv),
        _ => return im2col::forward(b, op, conv),
    }
    Ok(())
}

/// Lowers the gradient of a convolution's input.
pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Result<()> {
    match algorithm_of(b, op, conv, Pass::GradInput) {
        Algorithm::Depthwise => depthwise::grad_input(b, op, conv),
        Algorithm::Winograd => winograd::grad_input(b, op, conv),
        Algorithm::ImplicitGemm => implicit_gemm::grad_input(b, op, conv),
        Algorithm::StridedGradInput => strided_grad_input::grad_input(b, op, conv),
        Algorithm::Pointwise => pointwise::grad_input(b, op, conv),
        _ => return im2col::grad_input(b, op, conv),
    }
    Ok(())
}

/// Lowers the gradient of a convolution's kernel.
pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Result<()> {
    match algorithm_of(b, op, conv, Pass::GradKernel) {
        Algorithm::Depthwise => depthwise::grad_kernel(b, op, conv),
        Algorithm::Winograd => winograd::grad_kernel(b, op, conv),
        Algorithm::PaddedChannels => padded_channels::grad_kernel(b, op, conv),
        Algorithm::ImplicitGemm => implicit_gemm::grad_kernel(b, op, conv),
        Algorithm::Pointwise => pointwise::grad_kernel(b, op, conv),
        Algorithm::Columns | Algorithm::Rows | Algorithm::Elements => return partial_grad_kernel(b, op),
        Algorithm::Im2col | Algorithm::StridedGradInput => return im2col::grad_kernel(b, op, conv),
    }
    Ok(())
}

/// Lowers the partial weight gradient of a convolution or a dense layer.
pub(super) fn partial_grad_kernel(b: &mut Builder, op: &Operation) -> Result<()> {
    if let (Some(conv), Some(choice)) = (weight_gradient(b.graph, &op.node), &op.choice) {
        match choice.algorithm {
            Algorithm::Columns => columns::grad_kernel(b, op, &conv, &choice.live),
            Algorithm::Rows => rows::grad_kernel(b, op, &conv, &choice.live),
            _ => elements::grad_kernel(b, op, &conv, &choice.live),
        }
    }
    Ok(())
}

fn algorithm_of(b: &Builder, op: &Operation, conv: &Conv2d, pass: Pass) -> Algorithm {
    match &op.choice {
        Some(choice) => choice.algorithm,
        None => choose(conv, pass, None, &b.settings).algorithm,
    }
}

/// The images from number `first` on, as a matrix of pixels and channels.
fn input_matrix(conv: &Conv2d, first: usize) -> Matrix {
    let pixels = conv.window.input[0] * conv.window.input[1];
    Matrix { stride: conv.c_in, group: conv.c_in_per_group(), offset: first * pixels * conv.c_in }
}

/// The results of the images from number `first` on, as a matrix of pixels and channels.
fn output_matrix(conv: &Conv2d, first: usize) -> Matrix {
    let offset = first * conv.window.outputs() * conv.c_out;
    Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset }
}

/// The kernel as a matrix of patch elements and output channels.
fn kernel_matrix(conv: &Conv2d) -> Matrix {
    Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset: 0 }
}

/// The operands of a node as GEMM operands.
fn operands(op: &Operation) -> [Resource; 2] {
    [0, 1].map(|i| Resource::Value(op.node.inputs[i]))
}

/// The node's result, for passes without an epilogue.
fn result(op: &Operation) -> Resource {
    Resource::Value(op.node.outputs[0])
}
