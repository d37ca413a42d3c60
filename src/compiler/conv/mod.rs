//! Convolutions: one file for each algorithm, and the choice between them.

mod algorithm;
mod choose;
mod columns;
mod depthwise;
mod elements;
mod gather;
mod im2col;
mod implicit_gemm;
mod operands;
mod padded_channels;
mod pointwise;
mod rows;
mod strided_grad_input;
mod winograd;
mod winograd_fused;

pub use algorithm::Algorithm;
pub(super) use algorithm::Choice;
pub(super) use choose::{Pass, choose, fuses_pool, grad_input_has_epilogue, largest_partial};

use super::ir::Operation;
use super::lower::Builder;
use super::passes::weight_gradient;
use crate::error::Result;
use crate::graph::Conv2d;

/// Lowers a forward convolution.
pub(super) fn forward(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Result<()> {
    match algorithm_of(b, op, conv, Pass::Forward) {
        Algorithm::Depthwise => depthwise::forward(b, op, conv),
        Algorithm::Winograd => winograd::forward(b, op, conv),
        Algorithm::WinogradFused => winograd_fused::forward(b, op, conv),
        Algorithm::PaddedChannels => padded_channels::forward(b, op, conv),
        Algorithm::ImplicitGemm => implicit_gemm::forward(b, op, conv),
        Algorithm::Pointwise => pointwise::forward(b, op, conv),
        _ => return im2col::forward(b, op, conv),
    }
    Ok(())
}

/// Lowers the input gradient of a convolution.
pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Result<()> {
    match algorithm_of(b, op, conv, Pass::GradInput) {
        Algorithm::Depthwise => depthwise::grad_input(b, op, conv),
        Algorithm::Winograd => winograd::grad_input(b, op, conv),
        Algorithm::WinogradFused => winograd_fused::grad_input(b, op, conv),
        Algorithm::ImplicitGemm => implicit_gemm::grad_input(b, op, conv),
        Algorithm::StridedGradInput => strided_grad_input::grad_input(b, op, conv),
        Algorithm::Pointwise => pointwise::grad_input(b, op, conv),
        _ => return im2col::grad_input(b, op, conv),
    }
    Ok(())
}

/// Lowers the kernel gradient of a convolution.
pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Result<()> {
    match algorithm_of(b, op, conv, Pass::GradKernel) {
        Algorithm::Depthwise => depthwise::grad_kernel(b, op, conv),
        Algorithm::Winograd => winograd::grad_kernel(b, op, conv),
        Algorithm::PaddedChannels => padded_channels::grad_kernel(b, op, conv),
        Algorithm::ImplicitGemm => implicit_gemm::grad_kernel(b, op, conv),
        Algorithm::Pointwise => pointwise::grad_kernel(b, op, conv),
        Algorithm::Columns | Algorithm::Rows | Algorithm::Elements => return partial_grad_kernel(b, op),
        Algorithm::Im2col | Algorithm::StridedGradInput | Algorithm::WinogradFused => {
            return im2col::grad_kernel(b, op, conv);
        }
    }
    Ok(())
}

/// Lowers the partial weight gradient of a convolution or a dense layer.
pub(super) fn partial_grad_kernel(b: &mut Builder, op: &Operation) -> Result<()> {
    if let (Some(conv), Some(choice)) = (weight_gradient(b.graph, &op.node), &op.choice) {
        match choice.algorithm {
            Algorithm::Columns => columns::grad_kernel(b, op, &conv, &choice.trainable),
            Algorithm::Rows => rows::grad_kernel(b, op, &conv, &choice.trainable),
            _ => elements::grad_kernel(b, op, &conv, &choice.trainable),
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
