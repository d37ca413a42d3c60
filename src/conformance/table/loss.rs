//! Softmax, losses and metrics.

use super::build::{chain, limited, single, with};
use crate::conformance::case::{Case, DataKind, Fill, Operand, Wire};
use crate::graph::{ElementLoss, Op};

const KIND: DataKind = DataKind::Reals;

pub(super) fn cases() -> Vec<Case> {
    let mut all =
        [softmax(), cross_entropy(), soft_targets(), squared_error(), element_losses(), long_sums()].concat();
    // With these limits, a workgroup computes a row of 1000 classes, and predictions are a separate dispatch.
    let many_classes = |case: &&Case| case.name.contains("5x1000");
    let limited: Vec<_> = all
        .iter()
        .filter(many_classes)
        .map(|case| limited(case, if case.name.starts_with("metrics") { 500 } else { 2000 }))
        .collect();
    all.extend(limited);
    all
}

/// Cases of a loss, of its gradient, and of both, which one dispatch computes.
fn loss_and_gradient([loss, gradient]: [Op; 2], name: &str, batch: usize, operands: &[Operand]) -> [Case; 3] {
    let of = |op: &Op| single(format!("{} {name}", op.name()), op.clone(), batch, operands.to_vec(), KIND);
    let wires = || (0..operands.len()).map(Wire::Operand).collect();
    let separate = [of(&loss), of(&gradient)];
    let nodes = vec![(loss.clone(), wires()), (gradient, wires())];
    let both = chain(format!("{} and gradient {name}", loss.name()), batch, operands.to_vec(), nodes, KIND);
    let [loss, gradient] = separate;
    [loss, gradient, with(&both, "all kept", |ops| ops.keep_all = true)]
}

fn softmax() -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, classes) in [(1, 1), (3, 2), (65, 10), (5, 1000)] {
        for (data, fill) in [
            ("", Fill::Data),
            (" of equals", Fill::Ties),
            (" times 30", Fill::Scaled(30.0)),
            (" of NaN and infinities", Fill::Specials),
        ] {
            let x = Operand::batched(&[classes], fill);
            let of_x = |op: Op| {
                single(format!("{} {rows}x{classes}{data}", op.name()), op, rows, vec![x.clone()], KIND)
            };
            all.extend([Op::Softmax, Op::LogSoftmax].map(of_x));
        }
        let pair = vec![Operand::batched(&[classes], Fill::Data), Operand::batched(&[classes], Fill::Data)];
        let of_pair =
            |op: Op| single(format!("{} {rows}x{classes}", op.name()), op, rows, pair.clone(), KIND);
        all.extend([Op::SoftmaxGrad, Op::LogSoftmaxGrad].map(of_pair));
    }
    all
}

/// Cases of the softmax cross-entropy, its gradient, and the metrics.
fn cross_entropy() -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, classes) in [(1, 1), (3, 2), (65, 10), (5, 1000), (130, 3)] {
        let logits = |fill| Operand::batched(&[classes], fill);
        let labels = || Operand::batched(&[], Fill::Below(classes));
        let weights = || Operand::fixed(&[classes], Fill::Positive);
        let fills = [
            ("", Fill::Data),
            (" of equals", Fill::Ties),
            (" times 30", Fill::Scaled(30.0)),
            (" times 1000", Fill::Scaled(1000.0)),
            (" of NaN and infinities", Fill::Specials),
        ];
        for (data, fill) in fills {
            for (target, smoothing, weighted) in [
                ("", 0.0, false),
                (", smoothed", 0.1, false),
                (", weighted", 0.0, true),
                (", smoothed and weighted", 0.3, true),
                (", all alike", 1.0, false),
            ] {
                let mut operands = vec![logits(fill), labels()];
                operands.extend(weighted.then(weights));
                let ops = [Op::SoftmaxCrossEntropy { smoothing }, Op::SoftmaxCrossEntropyGrad { smoothing }];
                let name = format!("{rows}x{classes} logits{data}{target}");
                all.extend(loss_and_gradient(ops, &name, rows, &operands));
            }
        }
        for (data, fill) in &fills[..2] {
            let loss = Operand::batched(&[], *fill);
            let mut operands = vec![loss, logits(*fill), labels()];
            let name = format!("metrics {rows}x{classes}{data}");
            let loss_only = operands[..1].to_vec();
            all.push(single(format!("{name} without labels"), Op::Metrics, rows, loss_only, KIND));
            all.push(single(name.clone(), Op::Metrics, rows, operands.clone(), KIND));
            operands.push(weights());
            all.push(single(format!("{name}, weighted"), Op::Metrics, rows, operands, KIND));
        }
    }
    all
}

/// Cases of the cross-entropy with a target for each class, and its gradient.
fn soft_targets() -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, classes) in [(1, 1), (3, 2), (65, 10), (5, 1000), (130, 3)] {
        for (data, fill) in [
            ("", Fill::Data),
            (" of equals", Fill::Ties),
            (" times 30", Fill::Scaled(30.0)),
            (" of NaN and infinities", Fill::Specials),
        ] {
            let targets = Operand::batched(&[classes], Fill::Probability);
            let operands = [Operand::batched(&[classes], fill), targets];
            let ops = [Op::SoftCrossEntropy, Op::SoftCrossEntropyGrad];
            all.extend(loss_and_gradient(ops, &format!("{rows}x{classes} logits{data}"), rows, &operands));
        }
    }
    let operands = [Operand::batched(&[40], Fill::Specials), Operand::batched(&[40], Fill::Scaled(0.0))];
    let ops = [Op::SoftCrossEntropy, Op::SoftCrossEntropyGrad];
    all.extend(loss_and_gradient(ops, "7x40 logits, targets of 0", 7, &operands));
    all
}

/// Cases of the other losses of elements.
fn element_losses() -> Vec<Case> {
    let mut all = Vec::new();
    let huber = |threshold, slope| ElementLoss::Huber { threshold, slope };
    let entropy = |positive_weight| ElementLoss::BinaryCrossEntropy { positive_weight };
    let losses = [huber(0.0, 1.0), huber(0.7, 0.7), huber(2.0, 1.0), entropy(1.0), entropy(3.5)];
    let shapes: [(usize, &[usize]); 5] = [(1, &[1]), (3, &[5]), (70, &[]), (4, &[7, 9, 3]), (5, &[10, 257])];
    for of in losses {
        let is_entropy = matches!(of, ElementLoss::BinaryCrossEntropy { .. });
        let targets = if is_entropy { Fill::Probability } else { Fill::Data };
        for (batch, extents) in shapes {
            for (data, fill) in
                [("", Fill::Data), (" times 30", Fill::Scaled(30.0)), (" of equals", Fill::Ties)]
            {
                let targets = if data == " of equals" && !is_entropy { fill } else { targets };
                let operands = [Operand::batched(extents, fill), Operand::batched(extents, targets)];
                let ops = [Op::ElementLoss(of), Op::ElementLossGrad(of)];
                all.extend(loss_and_gradient(
                    ops,
                    &format!("{of:?} {batch} of {extents:?}{data}"),
                    batch,
                    &operands,
                ));
            }
        }
    }
    let long = || Operand::batched(&[2049, 2049, 1], Fill::Data);
    let ops = [Op::ElementLoss(huber(1.0, 1.0)), Op::ElementLossGrad(huber(1.0, 1.0))];
    all.extend(loss_and_gradient(ops, "1 of [2049, 2049, 1]", 1, &[long(), long()]));
    all
}

/// Cases with more classes, rows or elements than one invocation can loop over.
fn long_sums() -> Vec<Case> {
    let (rows, classes) = (3, 100_003);
    let mut all = Vec::new();
    let logits = |fill| Operand::batched(&[classes], fill);
    let labels = |classes| Operand::batched(&[], Fill::Below(classes));
    let weights = |classes| Operand::fixed(&[classes], Fill::Positive);
    for (data, fill) in
        [("", Fill::Data), (" of NaN and infinities", Fill::Specials), (" of equals", Fill::Ties)]
    {
        all.push(single(
            format!("softmax {rows}x{classes}{data}"),
            Op::Softmax,
            rows,
            vec![logits(fill)],
            KIND,
        ));
        for (target, smoothing, weighted) in [("", 0.0, false), (", smoothed and weighted", 0.3, true)] {
            let mut operands = vec![logits(fill), labels(classes)];
            operands.extend(weighted.then(|| weights(classes)));
            let ops = [Op::SoftmaxCrossEntropy { smoothing }, Op::SoftmaxCrossEntropyGrad { smoothing }];
            all.extend(loss_and_gradient(ops, &format!("{rows}x{classes}{data}{target}"), rows, &operands));
        }
    }
    let pair = vec![logits(Fill::Data), logits(Fill::Data)];
    all.push(single(format!("softmax_grad {rows}x{classes}"), Op::SoftmaxGrad, rows, pair, KIND));
    // With class weights, the invocations of a workgroup each add the weights of the labels of several rows.
    let few = Operand::batched(&[3], Fill::Data);
    let operands = vec![few, labels(3), weights(3)];
    let op = Op::SoftmaxCrossEntropyGrad { smoothing: 0.0 };
    all.push(single(format!("{} 2100x3 logits, weighted", op.name()), op, 2100, operands, KIND));
    // A workgroup for each row: a few rows, which quick checks run, and a grid that is folded.
    for (rows, classes) in [(2, 70_000), (70_000, 80)] {
        let wide = Operand::batched(&[classes], Fill::Data);
        let operands = vec![Operand::batched(&[], Fill::Data), wide, labels(classes)];
        all.push(single(format!("metrics {rows}x{classes}"), Op::Metrics, rows, operands, KIND));
    }
    let operands =
        vec![Operand::batched(&[], Fill::Data), logits(Fill::Ties), labels(classes), weights(classes)];
    all.push(single(format!("metrics {rows}x{classes}"), Op::Metrics, rows, operands, KIND));
    let image = || Operand::batched(&[2049, 2049, 1], Fill::Data);
    let ops = [Op::MeanSquaredError, Op::MeanSquaredErrorGrad];
    all.extend(loss_and_gradient(ops, "1 of [2049, 2049, 1]", 1, &[image(), image()]));
    all
}

fn squared_error() -> Vec<Case> {
    let mut all = Vec::new();
    let shapes: [(usize, &[usize]); 6] =
        [(1, &[1]), (3, &[5]), (70, &[]), (4, &[7, 9, 3]), (2, &[63]), (5, &[10, 257])];
    for (batch, extents) in shapes {
        for (data, fill) in
            [("", Fill::Data), (" times 1000", Fill::Scaled(1000.0)), (" of equals", Fill::Ties)]
        {
            let operands = [Operand::batched(extents, fill), Operand::batched(extents, Fill::Data)];
            let name = format!("{batch} of {extents:?}{data}");
            let ops = [Op::MeanSquaredError, Op::MeanSquaredErrorGrad];
            all.extend(loss_and_gradient(ops, &name, batch, &operands));
        }
    }
    all
}
