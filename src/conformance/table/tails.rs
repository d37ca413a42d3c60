//! NaN, infinity and -0.0 in every element of a last, incomplete vector: each must stay where it is. A compiler that picks a
//! component of a vector by arithmetic spreads them over the others.

use super::single;
use crate::conformance::case::{Case, DataKind, Fill, Operand};
use crate::graph::{Activation, Dropout, Op};

/// Lengths that leave one, two and three elements over.
pub(super) const LENGTHS: [usize; 3] = [5, 6, 7];
pub(super) const PLANTED: [(&str, f32); 4] =
    [("NaN", f32::NAN), ("infinity", f32::INFINITY), ("-infinity", f32::NEG_INFINITY), ("-0", -0.0)];

pub(super) fn cases() -> Vec<Case> {
    let elementwise = [
        ("relu", Op::Relu, 1),
        ("add", Op::Add, 2),
        ("mul", Op::Mul, 2),
        ("scale", Op::Scale(0.5), 1),
        ("relu_grad", Op::ReluGrad, 2),
        ("bias_add", Op::BiasAdd, 2),
        ("dropout", Op::Dropout(Dropout { rate: 0.5, layer: 2 }), 1),
        ("leaky_relu", Op::Activation(Activation::LeakyRelu { slope: 0.5 }), 1),
        ("clamp", Op::Activation(Activation::Clamp { limit: 4.0 }), 1),
        ("clamp_grad", Op::ActivationGrad(Activation::Clamp { limit: 4.0 }), 2),
        ("leaky_relu_grad", Op::ActivationGrad(Activation::LeakyRelu { slope: 0.5 }), 2),
    ];
    let mut all = Vec::new();
    for (name, op, operands) in elementwise {
        for length in LENGTHS {
            for at in 4..length {
                for (what, value) in PLANTED {
                    // Beyond the limits the slope is 0, and drivers differ in what 0 times infinity is: some fold it to 0.
                    if name == "clamp_grad" && value.is_infinite() {
                        continue;
                    }
                    let planted = Fill::Planted { at, value };
                    let mut fills = vec![Operand::batched(&[length], planted)];
                    if operands == 2 {
                        fills.push(match op {
                            Op::BiasAdd => Operand::fixed(&[length], planted),
                            _ => Operand::batched(&[length], planted),
                        });
                    }
                    let name = format!("{name} of {length}, {what} at {at}");
                    all.push(single(name, op.clone(), 1, fills, DataKind::Integers));
                }
            }
        }
    }
    all
}
