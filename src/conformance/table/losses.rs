//! Losses and metrics.

use super::single;
use crate::conformance::case::{Case, DataKind, Fill, Operand};
use crate::graph::Op;

const KIND: DataKind = DataKind::Reals;

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    cross_entropy(&mut all);
    squared_error(&mut all);
    all
}

fn cross_entropy(all: &mut Vec<Case>) {
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
                let name = |op: &Op| format!("{} {rows}x{classes} logits{data}{target}", op.name());
                for op in [Op::SoftmaxCrossEntropy { smoothing }, Op::SoftmaxCrossEntropyGrad { smoothing }] {
                    let mut operands = vec![logits(fill), labels()];
                    operands.extend(weighted.then(weights));
                    all.push(single(name(&op), op, rows, operands, KIND));
                }
            }
        }
        for (data, fill) in &fills[..2] {
            let loss = Operand::batched(&[], *fill);
            let mut operands = vec![loss, logits(*fill), labels()];
            let name = format!("metrics {rows}x{classes}{data}");
            all.push(single(
                format!("{name} without labels"),
                Op::Metrics,
                rows,
                operands[..1].to_vec(),
                KIND,
            ));
            all.push(single(name.clone(), Op::Metrics, rows, operands.clone(), KIND));
            operands.push(weights());
            all.push(single(format!("{name}, weighted"), Op::Metrics, rows, operands, KIND));
        }
    }
}

fn squared_error(all: &mut Vec<Case>) {
    let shapes: [(usize, &[usize]); 6] =
        [(1, &[1]), (3, &[5]), (70, &[]), (4, &[7, 9, 3]), (2, &[63]), (5, &[10, 257])];
    for (batch, extents) in shapes {
        for (data, fill) in
            [("", Fill::Data), (" times 1000", Fill::Scaled(1000.0)), (" of equals", Fill::Ties)]
        {
            for op in [Op::MeanSquaredError, Op::MeanSquaredErrorGrad] {
                let name = format!("{} {batch} of {extents:?}{data}", op.name());
                let operands = vec![Operand::batched(extents, fill), Operand::batched(extents, Fill::Data)];
                all.push(single(name, op, batch, operands, KIND));
            }
        }
    }
}
