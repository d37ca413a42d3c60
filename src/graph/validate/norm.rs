//! Batch norm.

use super::{Operands, ResultInfo, channels, result};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, ParameterId, ParameterKind, Role, StatisticsRule};

fn positive(o: &Operands, epsilon: f64) -> Result<()> {
    // Smaller ones are 0 in f32, and a constant channel would be divided by it.
    if epsilon.is_finite() && epsilon >= f64::from(f32::MIN_POSITIVE) {
        return Ok(());
    }
    Err(Error::argument(o.label, "an epsilon above 0", epsilon))
}

/// Operand 0 is `[n, .., c]`; those of `same` are like it, and those of `vectors` are `[c]`.
fn operands(o: &Operands, same: &[usize], vectors: &[usize]) -> Result<()> {
    o.count(1 + same.len() + vectors.len())?;
    let x = o.float(0)?;
    o.batched(0)?;
    channels(o, x)?;
    for &index in same {
        o.float(index)?;
        o.same_shape(0, index)?;
    }
    for &index in vectors {
        let value = o.float(index)?;
        o.shape(index, &[Some(x.shape.last())])?;
        if value.batched {
            return Err(Error::argument(o.label, "vectors without a batch axis", &value.name));
        }
    }
    Ok(())
}

pub(super) fn statistics(o: &Operands, epsilon: f64) -> Result<Vec<ResultInfo>> {
    operands(o, &[], &[])?;
    positive(o, epsilon)?;
    let vector = |suffix| Ok(ResultInfo { suffix, ..result([o.values[0].shape.last()], false)? });
    ["mean", "inv_std", "variance"].into_iter().map(vector).collect()
}

pub(super) fn normalise(o: &Operands, epsilon: Option<f64>) -> Result<Vec<ResultInfo>> {
    operands(o, &[], &[1, 2, 3, 4])?;
    epsilon.map_or(Ok(()), |epsilon| positive(o, epsilon))?;
    Ok(vec![result(o.values[0].shape.extents(), true)?])
}

pub(super) fn grad_scale(o: &Operands) -> Result<Vec<ResultInfo>> {
    operands(o, &[1], &[2, 3])?;
    Ok(vec![result([o.values[0].shape.last()], false)?])
}

pub(super) fn grad_input(o: &Operands) -> Result<Vec<ResultInfo>> {
    operands(o, &[1], &[2, 3, 4, 5, 6])?;
    Ok(vec![result(o.values[0].shape.extents(), true)?])
}

pub(super) fn update_statistics(
    graph: &Graph,
    o: &Operands,
    rule: &StatisticsRule,
    targets: &[ParameterId; 2],
) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    if !(0.0..=1.0).contains(&rule.momentum) {
        return Err(Error::argument(o.label, "a momentum from 0 to 1", rule.momentum));
    }
    if rule.per_example == 0 || rule.per_example.checked_mul(graph.batch()).is_none_or(|n| n > 1 << 31) {
        return Err(Error::argument(o.label, "1 to 2^31 values of a channel", rule.per_example));
    }
    if targets[0] == targets[1] {
        return Err(Error::argument(o.label, "two parameters", "one twice"));
    }
    for (index, target) in targets.iter().enumerate() {
        let Some(parameter) = graph.parameters().get(target.0) else {
            return Err(Error::argument(o.label, "parameters of this graph", format!("number {}", target.0)));
        };
        let taken =
            |node: &Node| matches!(&node.op, Op::UpdateStatistics(_, others) if others.contains(target));
        if parameter.kind != ParameterKind::Statistic || graph.nodes().iter().any(taken) {
            return Err(Error::argument(o.label, "statistics, each updated once", &parameter.path));
        }
        let batch = o.float(index)?;
        if batch.batched || batch.shape != parameter.shape {
            let at = format!("statistics for {}", parameter.path);
            return Err(Error::shape(at, parameter.shape.to_string(), &batch.shape));
        }
        if matches!(batch.role, Role::Parameter(_)) {
            return Err(Error::argument(o.label, "statistics that are not parameters", &batch.name));
        }
    }
    Ok(Vec::new())
}
