//! Elementwise operations, bias gradients, activations, dropout, and special values in incomplete vec4s.

use super::build::{INCOMPLETE_LENGTHS, KINDS, SPECIAL_VALUES, chain, limited, single, with};
use crate::conformance::case::{Case, DataKind, Fill, Operand, Wire};
use crate::graph::{Activation, Dropout, Op};

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in KINDS {
        all.extend(elementwise(kind));
        all.extend(biases(kind));
        all.extend(channels(kind));
        all.extend(dropout(kind));
    }
    all.extend(special_values());
    all.extend(activations());
    all.extend(planted_values());
    all
}

/// Batch sizes, and extents of an example; the last vec4 of the tensor has one, two, three or four elements.
const SHAPES: [(usize, &[usize]); 8] =
    [(1, &[1]), (3, &[1]), (5, &[1]), (4, &[4]), (3, &[5]), (7, &[3, 3, 3]), (2, &[2049]), (3, &[11, 5, 4])];

fn elementwise(kind: DataKind) -> Vec<Case> {
    let mut all = Vec::new();
    for (batch, extents) in SHAPES {
        let operand = || Operand::batched(extents, Fill::Data);
        all.push(single(format!("relu {batch} of {extents:?}"), Op::Relu, batch, vec![operand()], kind));
        let pair = vec![operand(), operand()];
        all.push(single(format!("add {batch} of {extents:?}"), Op::Add, batch, pair.clone(), kind));
        all.push(single(format!("mul {batch} of {extents:?}"), Op::Mul, batch, pair.clone(), kind));
        all.push(single(format!("relu_grad {batch} of {extents:?}"), Op::ReluGrad, batch, pair, kind));
        // Factors whose products with integers are exact in f32.
        let factors = if kind == DataKind::Integers { [-0.5, 3.0] } else { [0.1, -1.7] };
        for factor in factors {
            let name = format!("scale by {factor} {batch} of {extents:?}");
            all.push(single(name, Op::Scale(factor), batch, vec![operand()], kind));
        }
        let name = format!("mean_grad {batch} of {extents:?}");
        all.push(single(name, Op::MeanGrad, batch, vec![operand()], kind));
    }
    let without_batch = || vec![Operand::fixed(&[3, 7], Fill::Data)];
    all.push(single("relu without a batch".into(), Op::Relu, 1, without_batch(), kind));
    all.push(single("mean_grad without a batch".into(), Op::MeanGrad, 1, without_batch(), kind));
    // Cases of a reshape, which shares the memory of its operand: alone, and between other operations.
    let images = || vec![Operand::batched(&[2, 3, 5], Fill::Data)];
    all.push(single("reshape".into(), Op::Reshape(vec![4, 30]), 4, images(), kind));
    let nodes = vec![
        (Op::Relu, vec![Wire::Operand(0)]),
        (Op::Reshape(vec![4, 6, 5]), vec![Wire::Result(0, 0)]),
        (Op::Relu, vec![Wire::Result(1, 0)]),
    ];
    let case = chain("relu, reshape, relu".into(), 4, images(), nodes, kind);
    all.push(with(&case, "all kept", |ops| ops.keep_all = true));
    all.push(case);
    all
}

/// Parts of the last axis: of one channel, of several, at the begin, in the middle and at the end.
fn channels(kind: DataKind) -> Vec<Case> {
    let mut all = Vec::new();
    for (batch, extents) in SHAPES {
        let (last, rest) = (extents[extents.len() - 1], &extents[..extents.len() - 1]);
        for other in [1, 3, 8] {
            let b = [rest, &[other]].concat();
            let operands = vec![Operand::batched(extents, Fill::Data), Operand::batched(&b, Fill::Data)];
            all.push(single(
                format!("concat {batch} of {extents:?} and {other}"),
                Op::Concat,
                batch,
                operands,
                kind,
            ));
        }
        let mut parts = vec![(0, 1), (last / 2, last - last / 2), (last - 1, 1), (0, last)];
        parts.sort_unstable();
        parts.dedup();
        for (begin, count) in parts {
            let name = format!("slice_channels {begin}, {count} {batch} of {extents:?}");
            let operands = || vec![Operand::batched(extents, Fill::Data)];
            let op = Op::SliceChannels { begin, channels: count };
            all.push(single(name, op, batch, operands(), kind));
            let name = format!("pad_channels {begin}, {count} {batch} of {extents:?}");
            let op = Op::PadChannels { begin, channels: begin + last + count };
            all.push(single(name, op, batch, operands(), kind));
        }
    }
    for (batch, extents) in SHAPES {
        let channels = &extents[extents.len() - 1..];
        let factors = [Operand::batched(channels, Fill::Data), Operand::fixed(channels, Fill::Data)];
        for (factors, of) in factors.into_iter().zip(["each", "all"]) {
            let name = format!("mul_channels of {of} {batch} of {extents:?}");
            let operands = vec![Operand::batched(extents, Fill::Data), factors];
            all.push(single(name, Op::MulChannels, batch, operands, kind));
        }
    }
    let without_batch = vec![Operand::fixed(&[3, 7], Fill::Data), Operand::fixed(&[7], Fill::Data)];
    all.push(single("mul_channels without a batch".into(), Op::MulChannels, 1, without_batch, kind));
    let without_batch = vec![Operand::fixed(&[3, 7], Fill::Data), Operand::fixed(&[3, 2], Fill::Data)];
    all.push(single("concat without a batch".into(), Op::Concat, 1, without_batch, kind));
    all
}

fn biases(kind: DataKind) -> Vec<Case> {
    let mut all = Vec::new();
    for (batch, extents) in SHAPES {
        let channels = extents[extents.len() - 1];
        let operands = vec![Operand::batched(extents, Fill::Data), Operand::fixed(&[channels], Fill::Data)];
        all.push(single(format!("bias_add {batch} of {extents:?}"), Op::BiasAdd, batch, operands, kind));
    }
    // Batch sizes and extents. The rows are summed in one split, in two splits, with a shorter last split,
    // and in the maximum number of splits.
    let sums: [(usize, &[usize]); 11] = [
        (5, &[3]),
        (1, &[1]),
        (130, &[9]),
        (7, &[10, 13, 5]),
        (3, &[1, 1, 70]),
        (9, &[50, 50, 2]),
        (191, &[1]),
        (3, &[4]),
        (11, &[7, 5, 8]),
        (9, &[20, 20, 12]),
        (70, &[3, 1, 132]),
    ];
    for (batch, extents) in sums {
        let dy = vec![Operand::batched(extents, Fill::Data)];
        all.push(single(format!("bias_grad {batch} of {extents:?}"), Op::BiasGrad, batch, dy, kind));
    }
    let long = vec![Operand::batched(&[350, 100, 3], Fill::Data)];
    let long = single("bias_grad 4 of [350, 100, 3]".into(), Op::BiasGrad, 4, long, kind);
    all.extend([limited(&long, 400), long]);
    let without_batch = vec![Operand::fixed(&[100, 2, 6], Fill::Data)];
    all.push(single("bias_grad without a batch".into(), Op::BiasGrad, 1, without_batch, kind));
    all
}

fn dropout(kind: DataKind) -> Vec<Case> {
    let shapes: [(usize, &[usize]); 5] = [(1, &[1]), (3, &[5]), (4, &[4]), (7, &[3, 3, 3]), (2, &[2049])];
    let mut all = Vec::new();
    // With rates of 0.5 and 0.75 the factor 1 / (1 - rate) is a power of two, so that integers remain exact.
    let rates: &[f64] = if kind == DataKind::Integers { &[0.5, 0.75] } else { &[0.1, 0.5, 0.9] };
    for &rate in rates {
        for (layer, (batch, extents)) in (0u32..).zip(shapes) {
            let name = format!("dropout {rate} {batch} of {extents:?}");
            let x = vec![Operand::batched(extents, Fill::Data)];
            all.push(single(name, Op::Dropout(Dropout { rate, layer }), batch, x, kind));
        }
    }
    if kind == DataKind::Integers {
        let without_batch = vec![Operand::fixed(&[3, 7], Fill::Data)];
        let op = Op::Dropout(Dropout { rate: 0.5, layer: 1 });
        all.push(single("dropout without a batch".into(), op, 1, without_batch, kind));
    }
    all
}

/// Cases whose operands contain NaN and infinities, for operations whose results are defined for them.
fn special_values() -> Vec<Case> {
    let kind = DataKind::Integers;
    let images = || Operand::batched(&[9, 8, 3], Fill::Specials);
    let dropout = Op::Dropout(Dropout { rate: 0.5, layer: 1 });
    let gradient = vec![Operand::batched(&[9, 8, 3], Fill::Ties), images()];
    vec![
        single("relu of NaN and infinities".into(), Op::Relu, 2, vec![images()], kind),
        single("relu_grad of NaN and infinities".into(), Op::ReluGrad, 2, gradient, kind),
        single(
            "dropout of NaN and infinities".into(),
            dropout,
            3,
            vec![Operand::batched(&[37], Fill::Specials)],
            kind,
        ),
    ]
}

fn activations() -> Vec<Case> {
    let kinds = [
        ("leaky_relu 0.01", Activation::LeakyRelu { slope: 0.01 }),
        ("leaky_relu -1.5", Activation::LeakyRelu { slope: -1.5 }),
        ("clamp 0.5", Activation::Clamp { min: -0.5, max: 0.5 }),
        ("clamp 1", Activation::Clamp { min: -1.0, max: 1.0 }),
        ("clamp -0.1 to 0.7", Activation::Clamp { min: -0.1, max: 0.7 }),
        ("clamp from -1", Activation::Clamp { min: -1.0, max: f32::MAX.into() }),
        ("sigmoid", Activation::Sigmoid),
        ("tanh", Activation::Tanh),
        ("gelu", Activation::Gelu),
        ("gelu_tanh", Activation::GeluTanh),
        ("relu6", Activation::Relu6),
        ("silu", Activation::Silu),
        ("hard_sigmoid", Activation::HardSigmoid),
        ("hard_swish", Activation::HardSwish),
        ("inverse_power 0.75", Activation::InversePower { exponent: 0.75 }),
        ("inverse_power 3", Activation::InversePower { exponent: 3.0 }),
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
                let (op, gradient) = (Op::Activation(activation), Op::ActivationGrad(activation));
                all.push(single(format!("activation {name}"), op, batch, vec![x.clone()], kind));
                all.push(single(format!("activation_grad {name}"), gradient, batch, vec![x, dy], kind));
            }
        }
    }
    all
}

/// Cases with NaN, an infinity or -0.0 in one element of an incomplete last vec4. The value must not spread
/// to other elements, as it does if a shader compiler selects a component of a vector by arithmetic.
fn planted_values() -> Vec<Case> {
    let operations = [
        ("relu", Op::Relu, 1),
        ("add", Op::Add, 2),
        ("mul", Op::Mul, 2),
        ("mul_channels", Op::MulChannels, 2),
        ("scale", Op::Scale(0.5), 1),
        ("relu_grad", Op::ReluGrad, 2),
        ("bias_add", Op::BiasAdd, 2),
        ("dropout", Op::Dropout(Dropout { rate: 0.5, layer: 2 }), 1),
        ("leaky_relu", Op::Activation(Activation::LeakyRelu { slope: 0.5 }), 1),
        ("clamp", Op::Activation(Activation::Clamp { min: -4.0, max: 4.0 }), 1),
        ("clamp_grad", Op::ActivationGrad(Activation::Clamp { min: -4.0, max: 4.0 }), 2),
        ("leaky_relu_grad", Op::ActivationGrad(Activation::LeakyRelu { slope: 0.5 }), 2),
    ];
    let mut all = Vec::new();
    for (name, op, operands) in operations {
        for length in INCOMPLETE_LENGTHS {
            for index in 4..length {
                for (what, value) in SPECIAL_VALUES {
                    // Beyond its limits the derivative of clamp is 0, and 0 times infinity is NaN or 0: some
                    // drivers fold the product to 0.
                    if name == "clamp_grad" && value.is_infinite() {
                        continue;
                    }
                    let planted = Fill::Planted { index, value };
                    let mut fills = vec![Operand::batched(&[length], planted)];
                    if operands == 2 {
                        fills.push(match op {
                            Op::BiasAdd | Op::MulChannels => Operand::fixed(&[length], planted),
                            _ => Operand::batched(&[length], planted),
                        });
                    }
                    let name = format!("{name} of {length}, {what} at {index}");
                    all.push(single(name, op.clone(), 1, fills, DataKind::Integers));
                }
            }
        }
    }
    all
}
