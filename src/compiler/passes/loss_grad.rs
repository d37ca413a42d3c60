//! Fuses the gradient of a loss into the loss: both read the same operands.

use super::changes_memory;
use crate::compiler::ir::Operation;
use crate::graph::Op;

/// Fuses into each loss the gradient of its mean with the same operands.
pub(crate) fn fuse_loss_grads(mut operations: Vec<Operation>) -> Vec<Operation> {
    let mut fused = vec![false; operations.len()];
    for index in 0..operations.len() {
        let loss = &operations[index].node;
        let gradient = match loss.op {
            Op::SoftmaxCrossEntropy { smoothing } => Op::SoftmaxCrossEntropyGrad { smoothing },
            Op::MeanSquaredError => Op::MeanSquaredErrorGrad,
            Op::ElementLoss(of) => Op::ElementLossGrad(of),
            Op::SoftCrossEntropy => Op::SoftCrossEntropyGrad,
            _ => continue,
        };
        let later = &operations[index..];
        let same = |other: &Operation| other.node.op == gradient && other.node.inputs == loss.inputs;
        let Some(distance) = later.iter().position(same) else { continue };
        if fused[index + distance] || changes_memory(&later[..distance]) {
            continue;
        }
        fused[index + distance] = true;
        operations[index].loss_grad = Some(later[distance].node.outputs[0]);
    }
    let mut fused = fused.into_iter();
    operations.retain(|_| !fused.next().unwrap_or(false));
    operations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::ir::operations;
    use crate::error::Result;
    use crate::graph::{DType, Graph, Role, UpdateRule};
    use crate::shape::Shape;

    const LOSS: Op = Op::SoftmaxCrossEntropy { smoothing: 0.1 };

    #[test]
    fn gradient_with_the_same_operands_and_smoothing_fuses_into_the_loss() -> Result<()> {
        for (smoothing, exchanged, separate) in [(0.1, false, 0), (0.2, false, 1), (0.1, true, 1)] {
            let mut graph = Graph::new(2)?;
            let [logits, other] = ["x", "y"].map(|name| graph.batch_input(name, &[3], DType::F32));
            let (logits, other) = (logits?, other?);
            let labels = graph.batch_input("labels", &[], DType::U32)?;
            let loss = graph.push_one(LOSS, &[logits, labels], "loss")?;
            graph.push_one(Op::Metrics, &[loss, logits, labels], "metrics")?;
            let of = if exchanged { other } else { logits };
            let grad = Op::SoftmaxCrossEntropyGrad { smoothing };
            let grad = graph.push_one(grad, &[of, labels], "grad")?;
            let fused = fuse_loss_grads(operations(&graph));
            assert_eq!(fused.len(), 2 + separate, "{smoothing} {exchanged}");
            assert_eq!(fused[0].loss_grad, (separate == 0).then_some(grad));
        }
        Ok(())
    }

    #[test]
    fn gradient_of_squared_errors_fuses_unless_an_operand_is_updated_before() -> Result<()> {
        for updated in [false, true] {
            let mut graph = Graph::new(2)?;
            let x = graph.batch_input("x", &[3], DType::F32)?;
            let targets = graph.batch_input("targets", &[3], DType::F32)?;
            let weight = graph.parameter("weight", Shape::new([4])?)?;
            let gradient = graph.input("gradient", Shape::new([4])?, DType::F32);
            graph.push_one(Op::MeanSquaredError, &[x, targets], "loss")?;
            if updated {
                let Role::Parameter(id) = graph.at(weight).role else { unreachable!() };
                let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
                graph.push(Op::Update(rule, vec![id.into()]), &[gradient], "update")?;
            }
            // The gradient of the targets has exchanged operands.
            graph.push_one(Op::MeanSquaredErrorGrad, &[targets, x], "grad of targets")?;
            let grad = graph.push_one(Op::MeanSquaredErrorGrad, &[x, targets], "grad")?;
            let fused = fuse_loss_grads(operations(&graph));
            assert_eq!(fused[0].loss_grad, (!updated).then_some(grad));
            assert_eq!(fused.len(), if updated { 4 } else { 2 });
        }
        Ok(())
    }
}
