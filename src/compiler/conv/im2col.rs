//! GEMMs of a column matrix in memory (im2col, col2im). Supports every convolution; the batch is divided so
//! that the column matrix of each part fits a workspace.

use super::operands::{kernel_matrix, operands, output_matrix, result};
use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, GemmBuffers, Resource};
use crate::error::{Error, Result};
use crate::graph::Conv2d;
use crate::kernels::{Gemm, Images, Matrix, col2im, im2col, tap_parts};
use std::ops::Range;

/// Maximum number of groups: each one is a workgroup in z, and WebGPU allows 65,535 workgroups per dimension.
const MAX_GROUPS: usize = 65_535;

pub(super) fn forward(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Result<()> {
    let [x, kernel] = operands(op);
    for images in parts(b, op, conv)? {
        let columns = columns(b, op, conv, x, &images);
        let gemm = Gemm {
            m: images.len() * conv.window.outputs(),
            n: conv.c_out_per_group(),
            k: conv.depth(),
            a: column_matrix(conv, images.len()),
            b: kernel_matrix(conv),
            c: output_matrix(conv, images.start),
            groups: conv.groups,
            m_per_row: conv.window.outputs(),
            first_row: images.start,
            ..Gemm::plain(0, 0, 0)
        };
        b.gemm_with_epilogue(op, &gemm, columns, kernel);
    }
    Ok(())
}

pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Result<()> {
    let [dy, kernel] = operands(op);
    for images in parts(b, op, conv)? {
        let outputs = images.len() * conv.window.outputs();
        let columns = b.workspace(conv.groups * outputs * conv.depth());
        let gemm = Gemm {
            m: outputs,
            n: conv.depth(),
            k: conv.c_out_per_group(),
            a: output_matrix(conv, images.start),
            b: kernel_matrix(conv),
            c: column_matrix(conv, images.len()),
            transpose_b: true,
            groups: conv.groups,
            m_per_row: conv.window.outputs(),
            first_row: images.start,
            ..Gemm::plain(0, 0, 0)
        };
        b.gemm(op, &gemm, &GemmBuffers::plain(dy, kernel, columns));
        for taps in tap_parts(&conv.window, 1, b.settings.max_iterations) {
            b.push(op, col2im(&images_of(conv, &images), &taps), vec![columns, result(op)]);
        }
    }
    Ok(())
}

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Result<()> {
    let [x, dy] = operands(op);
    for images in parts(b, op, conv)? {
        let columns = columns(b, op, conv, x, &images);
        let gemm = Gemm {
            m: conv.depth(),
            n: conv.c_out_per_group(),
            k: images.len() * conv.window.outputs(),
            a: column_matrix(conv, images.len()),
            b: output_matrix(conv, images.start),
            c: kernel_matrix(conv),
            transpose_a: true,
            groups: conv.groups,
            k_per_row: conv.window.outputs(),
            first_row: images.start,
            accumulate: images.start > 0,
            ..Gemm::plain(0, 0, 0)
        };
        b.gemm(op, &gemm, &GemmBuffers::plain(columns, dy, result(op)));
    }
    Ok(())
}

/// Writes the column matrix (im2col) of a range of images to a workspace, and returns the workspace.
fn columns(b: &mut Builder, op: &Operation, conv: &Conv2d, x: Resource, images: &Range<usize>) -> Resource {
    let columns = b.workspace(conv.groups * images.len() * conv.window.outputs() * conv.depth());
    b.push(op, im2col(&images_of(conv, images)), vec![x, columns]);
    columns
}

/// Divides the batch so that the column matrix of each part fits a workspace.
fn parts(b: &Builder, op: &Operation, conv: &Conv2d) -> Result<Vec<Range<usize>>> {
    let label = &op.node.label;
    if conv.groups > MAX_GROUPS {
        let expected = format!("at most {MAX_GROUPS} groups");
        return Err(Error::argument(label, expected, conv.groups));
    }
    let elements = (conv.groups * conv.window.outputs()).saturating_mul(conv.depth());
    let (needed, available) = ((elements as u64).saturating_mul(4), b.settings.max_binding);
    if needed > available {
        let what = format!("{label}: the column matrix of one image");
        let advice = "use a smaller image or kernel, a larger stride, or fewer channels".to_owned();
        return Err(Error::LimitExceeded { what, needed, available, advice });
    }
    Ok(b.parts_of_batch(elements, u64::MAX))
}

fn images_of(conv: &Conv2d, images: &Range<usize>) -> Images {
    Images {
        window: conv.window,
        channels: conv.c_in,
        groups: conv.groups,
        first: images.start,
        count: images.len(),
    }
}

/// Returns the layout of the column matrices of all groups, which are stored one after the other.
fn column_matrix(conv: &Conv2d, images: usize) -> Matrix {
    Matrix { stride: conv.depth(), group: images * conv.window.outputs() * conv.depth(), offset: 0 }
}
