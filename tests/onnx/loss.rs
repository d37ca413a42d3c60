//! The softmax cross-entropy.

use super::layout::*;
use super::{Refusal, Results, out_of_scope};
use crate::support::executor::{Make, Operand, evaluate_one};
use crate::support::onnx::Case;
use frazil::graph::Op;

/// Scores `[n, classes, ..]` and labels `[n, ..]`, a row of classes for each label.
pub fn softmax_cross_entropy(case: &Case, make: Make) -> Results {
    let (scores, labels) = (input(case, 0), input(case, 1));
    if case.attributes.contains_key("ignore_index") {
        return out_of_scope("ignore_index: every label counts here");
    }
    if optional(case, 2).is_some() {
        return Err(Refusal::NotYetMapped("class weights"));
    }
    let mut axes: Vec<_> = (0..scores.shape.len()).filter(|&axis| axis != 1).collect();
    axes.push(1);
    let moved = permute(scores, &axes);
    let (classes, rows) = (scores.shape[1], labels.data.len());
    let logits = Operand::batch(&[rows, classes], moved.data);
    let label = |data: Vec<f64>| Operand::integers(&[rows], data);
    let plain = Op::SoftmaxCrossEntropy { smoothing: 0.0 };
    let loss_of = |data: Vec<f64>| evaluate_one(make, plain.clone(), &[logits.clone(), label(data)]);
    let losses = loss_of(labels.data.clone());
    let mean = || {
        let operands = [Operand::batch(&[rows], losses.clone()), logits.clone(), label(labels.data.clone())];
        evaluate_one(make, Op::Metrics, &operands)[0]
    };
    let mut outputs = vec![match text(case, "reduction", "mean") {
        "none" => tensor(&labels.shape, losses.clone()),
        "sum" => tensor(&[], vec![mean() * rows as f64]),
        _ => tensor(&[], vec![mean()]),
    }];
    if case.outputs.len() > 1 {
        // The logarithm of a class's probability is the negative loss of that class as the label.
        let by_class = (0..classes)
            .map(|class| loss_of(vec![class as f64; rows]).iter().map(|loss| -loss).collect::<Vec<_>>());
        let log_probabilities: Vec<f64> = by_class.flatten().collect();
        let mut shape = vec![classes];
        shape.extend_from_slice(&labels.shape);
        let mut axes: Vec<_> = (0..shape.len()).collect();
        axes.swap(0, 1);
        outputs.push(permute(&tensor(&shape, log_probabilities), &axes));
    }
    Ok(outputs)
}
