//! Batch norm: statistics, normalization, gradients and running statistics; normalization of examples.

use super::linear::channels;
use super::{Operands, ResultInfo, foreign_parameter, result};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Normalization, Op, ParameterId, ParameterKind, Role, StatisticsRule};

fn valid_epsilon(o: &Operands, epsilon: f64) -> Result<()> {
    // An epsilon below the smallest normal f32 becomes 0 or subnormal on the device, where a channel of
    // variance 0 would be divided by 0: its inv_std is `1/sqrt(epsilon)`.
    if epsilon.is_finite() && epsilon >= f64::from(f32::MIN_POSITIVE) {
        return Ok(());
    }
    Err(Error::argument(o.label, "an epsilon that is a positive normal number in f32", epsilon))
}

/// Validates operand 0 as `[n, .., c]`, the operands `same` as having the same shape, and the operands
/// `vectors` as `[c]`.
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
        o.float(index)?;
        o.shape(index, &[Some(x.shape.last())])?;
        o.unbatched(index)?;
    }
    Ok(())
}

pub(super) fn statistics(o: &Operands, epsilon: f64) -> Result<Vec<ResultInfo>> {
    operands(o, &[], &[])?;
    valid_epsilon(o, epsilon)?;
    let vector = |suffix| Ok(ResultInfo { suffix, ..result([o.values[0].shape.last()], false)? });
    ["mean", "inv_std", "variance"].into_iter().map(vector).collect()
}

pub(super) fn normalize(o: &Operands, epsilon: Option<f64>) -> Result<Vec<ResultInfo>> {
    operands(o, &[], &[1, 2, 3, 4])?;
    epsilon.map_or(Ok(()), |epsilon| valid_epsilon(o, epsilon))?;
    Ok(vec![result(o.values[0].shape.extents(), true)?])
}

pub(super) fn grad_scale(o: &Operands, epsilon: Option<f64>) -> Result<Vec<ResultInfo>> {
    operands(o, &[1], &[2, 3])?;
    epsilon.map_or(Ok(()), |epsilon| valid_epsilon(o, epsilon))?;
    Ok(vec![result([o.values[0].shape.last()], false)?])
}

pub(super) fn grad_input(o: &Operands) -> Result<Vec<ResultInfo>> {
    operands(o, &[1], &[2, 3, 4, 5, 6])?;
    Ok(vec![result(o.values[0].shape.extents(), true)?])
}

/// Validates `x [n, .., c]` of a normalization of examples, or `y, inv_std [n, sets], dy` of its gradient.
pub(super) fn normalize_sets(o: &Operands, of: &Normalization, gradient: bool) -> Result<Vec<ResultInfo>> {
    let Normalization { groups, each_position, epsilon } = *of;
    o.count(if gradient { 3 } else { 1 })?;
    let x = o.float(0)?;
    o.batched(0)?;
    channels(o, x)?;
    valid_epsilon(o, epsilon)?;
    let c = x.shape.last();
    if groups == 0 || !c.is_multiple_of(groups) {
        return Err(Error::argument(o.label, format!("groups that divide {c} channels"), groups));
    }
    let positions = x.elements_per_row() / c;
    let sets = if each_position { positions * groups } else { groups };
    if x.elements_per_row() == sets {
        let expected = "2 elements or more in each set that is normalized";
        return Err(Error::argument(
            o.label,
            expected,
            format!("{groups} groups of examples in {}", x.shape),
        ));
    }
    if !gradient {
        let n = x.shape.extents()[0];
        let inv_std = ResultInfo { suffix: "inv_std", ..result([n, sets], true)? };
        return Ok(vec![result(x.shape.extents(), true)?, inv_std]);
    }
    o.float(1)?;
    o.shape(1, &[None, Some(sets)])?;
    o.same_rows(0, 1)?;
    o.float(2)?;
    o.same_shape(0, 2)?;
    Ok(vec![result(x.shape.extents(), true)?])
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
        let expected = "1 or more elements per channel and example, at most 2^31 per batch";
        return Err(Error::argument(o.label, expected, rule.per_example));
    }
    if targets[0] == targets[1] {
        let got = format!("parameter {} twice", targets[0].0);
        return Err(Error::argument(o.label, "two different parameters", got));
    }
    for (index, target) in targets.iter().enumerate() {
        let Some(parameter) = graph.parameters().get(target.0) else {
            return Err(foreign_parameter(graph, o, *target));
        };
        let updated =
            |node: &Node| matches!(&node.op, Op::UpdateStatistics(_, others) if others.contains(target));
        if parameter.kind != ParameterKind::Statistic {
            let got = format!("{} of kind {:?}", parameter.path, parameter.kind);
            return Err(Error::argument(o.label, "parameters of kind Statistic", got));
        }
        if graph.nodes().iter().any(updated) {
            let got = format!("a second update of {}", parameter.path);
            return Err(Error::argument(o.label, "one update of each statistic", got));
        }
        let batch = o.float(index)?;
        if batch.batched || batch.shape != parameter.shape {
            let at = format!("statistics for {}", parameter.path);
            return Err(Error::shape(at, parameter.shape.to_string(), &batch.shape));
        }
        if matches!(batch.role, Role::Parameter(_)) {
            let got = format!("the parameter {}", batch.name);
            return Err(Error::argument(o.label, "statistics of a batch", got));
        }
    }
    Ok(Vec::new())
}
