//! Activations and softmax.

use super::single;
use crate::conformance::case::{Case, DataKind, Fill, Operand};
use crate::graph::{Activation, Op};

pub(super) fn cases() -> Vec<Case> {
    let kinds = [
        ("leaky_relu 0.01", Activation::LeakyRelu { slope: 0.01 }),
        ("leaky_relu -1.5", Activation::LeakyRelu { slope: -1.5 }),
        ("clamp 0.5", Activation::Clamp { limit: 0.5 }),
        ("clamp 1", Activation::Clamp { limit: 1.0 }),
        ("sigmoid", Activation::Sigmoid),
        ("tanh", Activation::Tanh),
        ("gelu", Activation::Gelu),
        ("gelu_tanh", Activation::GeluTanh),
    ];
    let fills = [
        ("", Fill::Data),
        (" times 4", Fill::Scaled(4.0)),
        (" times 0.01", Fill::Scaled(0.01)),
        (" of -1, 0, 1", Fill::Ties),
    ];
    let shapes: [(usize, &[usize]); 3] = [(1, &[1]), (3, &[5, 2]), (5, &[821])];
    let mut all = Vec::new();
    let kind = DataKind::Reals;
    for (name, activation) in kinds {
        for (batch, extents) in shapes {
            for (data, fill) in fills {
                let x = Operand::batched(extents, fill);
                let dy = Operand::batched(extents, Fill::Data);
                let name = format!("{name} {batch} of {extents:?}{data}");
                all.push(single(
                    format!("activation {name}"),
                    Op::Activation(activation),
                    batch,
                    vec![x.clone()],
                    kind,
                ));
                let gradient = Op::ActivationGrad(activation);
                all.push(single(format!("activation_grad {name}"), gradient, batch, vec![x, dy], kind));
            }
        }
    }
    for (rows, classes) in [(1, 1), (3, 2), (65, 10), (5, 1000)] {
        for (data, fill) in [
            ("", Fill::Data),
            (" of equals", Fill::Ties),
            (" times 30", Fill::Scaled(30.0)),
            (" of NaN and infinities", Fill::Specials),
        ] {
            let x = Operand::batched(&[classes], fill);
            all.push(single(format!("softmax {rows}x{classes}{data}"), Op::Softmax, rows, vec![x], kind));
        }
        let pair = vec![Operand::batched(&[classes], Fill::Data), Operand::batched(&[classes], Fill::Data)];
        all.push(single(format!("softmax_grad {rows}x{classes}"), Op::SoftmaxGrad, rows, pair, kind));
    }
    all
}
