//! Weight gradients of partly frozen kernels, in every way to compute the rest.

use super::conv::geometries;
use super::{KINDS, single, with};
use crate::compiler::GradientStrategy;
use crate::conformance::case::{Case, DataKind, Fill, Operand, Partial};
use crate::error::Result;
use crate::graph::{Conv2d, Op};
use crate::mask::Mask;

/// Each geometry that has the way, on integers; those of [`WITH_REALS`] on reals, too, and in parts.
pub(super) fn cases() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for g in geometries() {
        let conv = g.conv()?;
        let w = &conv.window;
        let operands = [
            Operand::batched(&[w.input[0], w.input[1], conv.c_in], Fill::Data),
            Operand::batched(&[w.output[0], w.output[1], conv.c_out], Fill::Data),
        ];
        for kind in KINDS {
            if kind == DataKind::Integers || WITH_REALS.contains(&g.name) {
                let name = format!("conv2d_grad_kernel {}", g.name);
                let whole = single(name, Op::Conv2dGradKernel(conv), g.batch, operands.to_vec(), kind);
                ways(&whole, &conv, &mut all);
            }
        }
    }
    let window = crate::shape::Window::new([1, 1]);
    for (inputs, outputs) in [(7, 5), (16, 12), (40, 36)] {
        let conv = Conv2d::new([1, 1, inputs], outputs, window, 1, "dense")?;
        let operands = [Operand::batched(&[inputs], Fill::Data), Operand::batched(&[outputs], Fill::Data)];
        let op = Op::MatMul { transpose_a: true, transpose_b: false };
        for kind in KINDS {
            let name = format!("matmul gradient {inputs} to {outputs}");
            ways(&single(name, op.clone(), 6, operands.to_vec(), kind), &conv, &mut all);
        }
    }
    Ok(all)
}

const WITH_REALS: [&str; 3] = ["3x3 by fours", "asymmetric padding, stride 2x3", "36 channels by fours"];

fn ways(whole: &Case, conv: &Conv2d, all: &mut Vec<Case>) {
    let elements = conv.depth() * conv.c_out;
    let mut add = |name: &str, how: GradientStrategy, trains: &dyn Fn(usize) -> bool| {
        let mask = Mask::from_trainable((0..elements).map(trains));
        let case = with(whole, name, |ops| ops.partial = Some(Partial { mask, how }));
        // One image at a time.
        let cut = with(&case, "in parts", |ops| ops.workspace_bytes = Some(4));
        all.push(case);
        if WITH_REALS.iter().any(|name| whole.name.contains(name)) && how != GradientStrategy::Elements {
            all.push(cut);
        }
    };
    let (columns, last) = (conv.c_out, conv.depth() - 1);
    if conv.groups == 1 {
        let columns_of = |i: usize| i % columns % 3 == 1 || i % columns == columns - 1;
        add("some columns", GradientStrategy::Columns, &columns_of);
        let rows_of = |i: usize| i / columns % 4 == 1 || i / columns == last;
        add("some rows", GradientStrategy::Rows, &rows_of);
    }
    add("some elements", GradientStrategy::Elements, &|i| i % 5 == 2 || i == elements - 1);
}
