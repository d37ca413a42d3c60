//! ONNX's SoftmaxCrossEntropyLoss.

use super::layout::*;
use super::{OutOfScope, Results, out_of_scope};
use crate::support::executor::{Make, Operand, evaluate_one};
use crate::support::onnx::Case;
use frazil::low_level::Op;

/// Returns the class weights of a case, or `None` if it has none. An ignored class gets the weight 0.
fn class_weights(case: &Case, classes: usize) -> Result<Option<Vec<f64>>, OutOfScope> {
    let given = optional(case, 2).map(|weights| weights.data.clone());
    if !case.attributes.contains_key("ignore_index") {
        return Ok(given);
    }
    match usize::try_from(int(case, "ignore_index", 0)) {
        Ok(ignored) if ignored < classes => {
            let mut weights = given.unwrap_or_else(|| vec![1.0; classes]);
            weights[ignored] = 0.0;
            Ok(Some(weights))
        }
        _ => out_of_scope("ignored labels outside the classes"),
    }
}

/// Computes SoftmaxCrossEntropyLoss of scores `[n, classes, ..]` and labels `[n, ..]`. The scores are
/// reshaped to one row of class scores for each label.
pub fn softmax_cross_entropy(case: &Case, make: Make) -> Results {
    let (scores, labels) = (input(case, 0), input(case, 1));
    let mut axes: Vec<_> = (0..scores.shape.len()).filter(|&axis| axis != 1).collect();
    axes.push(1);
    let moved = permute(scores, &axes);
    let (classes, rows) = (scores.shape[1], labels.data.len());
    let logits = Operand::batch(&[rows, classes], moved.data);
    let label = |data: Vec<f64>| Operand::integers(&[rows], data);
    let plain = Op::SoftmaxCrossEntropy { smoothing: 0.0 };
    let weights = class_weights(case, classes)?;
    let mut operands = vec![logits.clone(), label(labels.data.clone())];
    operands.extend(weights.iter().map(|weights| Operand::fixed(&[classes], weights.clone())));
    let losses = evaluate_one(make, plain.clone(), &operands);
    let mean = || {
        let operands = [&[Operand::batch(&[rows], losses.clone())], operands.as_slice()].concat();
        evaluate_one(make, Op::Metrics, &operands)[0]
    };
    let divisor = weights.as_ref().map_or(rows as f64, |w| labels.data.iter().map(|&l| w[l as usize]).sum());
    let mut outputs = vec![match text(case, "reduction", "mean") {
        "none" => tensor(&labels.shape, losses.clone()),
        "sum" => tensor(&[], vec![mean() * divisor]),
        _ => tensor(&[], vec![mean()]),
    }];
    if case.outputs.len() > 1 {
        // The second output of the operator contains log-probabilities. That of a class equals minus the
        // unweighted loss with this class as the label.
        let loss_of = |data: Vec<f64>| evaluate_one(make, plain.clone(), &[logits.clone(), label(data)]);
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
