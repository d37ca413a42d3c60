//! Parameter updates, gradient accumulation and clipping.

use super::{Operands, ResultInfo, foreign_parameter};
use crate::error::{Error, Result};
use crate::graph::{Clip, Graph, Op, ParameterId, Role, Target};

pub(super) fn accumulate(graph: &Graph, o: &Operands, targets: &[ParameterId]) -> Result<Vec<ResultInfo>> {
    gradients(graph, o, targets)?;
    let accumulated = |op: &Op, id: &ParameterId| matches!(op, Op::Accumulate(ids) if ids.contains(id));
    once(graph, o, targets, "accumulation", accumulated)?;
    Ok(Vec::new())
}

pub(super) fn clip_gradients(
    graph: &Graph,
    o: &Operands,
    clip: Clip,
    targets: &[ParameterId],
) -> Result<Vec<ResultInfo>> {
    gradients(graph, o, targets)?;
    if graph.nodes().iter().any(|node| matches!(node.op, Op::Clip(..))) {
        return Err(Error::argument(o.label, "at most one clip per graph", "a second clip"));
    }
    let (Clip::Norm { max: limit, .. } | Clip::Value { limit }) = clip;
    if !(limit > 0.0 && limit <= f64::from(f32::MAX)) {
        return Err(Error::argument(o.label, "a limit above 0 that is finite in f32", limit));
    }
    Ok(Vec::new())
}

pub(super) fn update(graph: &Graph, o: &Operands, targets: &[Target]) -> Result<Vec<ResultInfo>> {
    let ids: Vec<_> = targets.iter().map(|target| target.parameter).collect();
    gradients(graph, o, &ids)?;
    for target in targets {
        for factor in [target.learning_rate, target.weight_decay] {
            if !(factor >= 0.0 && factor <= f64::from(f32::MAX)) {
                return Err(Error::argument(o.label, "factors of 0 or more that are finite in f32", factor));
            }
        }
    }
    Ok(Vec::new())
}

/// Validates the operands as gradients of distinct parameters of this graph that no earlier node updates.
fn gradients(graph: &Graph, o: &Operands, targets: &[ParameterId]) -> Result<()> {
    o.count(targets.len())?;
    let mut seen = vec![false; graph.parameters().len()];
    for (index, target) in targets.iter().enumerate() {
        let Some(parameter) = graph.parameters().get(target.0) else {
            return Err(foreign_parameter(graph, o, *target));
        };
        if std::mem::replace(&mut seen[target.0], true) {
            let got = format!("{} twice", parameter.path);
            return Err(Error::argument(o.label, "each parameter once", got));
        }
        let gradient = o.float(index)?;
        if gradient.batched || gradient.shape != parameter.shape {
            return Err(Error::shape(
                format!("gradient of {}", parameter.path),
                parameter.shape.to_string(),
                &gradient.shape,
            ));
        }
        if matches!(gradient.role, Role::Parameter(_)) {
            let got = format!("the parameter {}", gradient.name);
            return Err(Error::argument(o.label, "gradients", got));
        }
    }
    let updated = |op: &Op, id: &ParameterId| match op {
        Op::Update(_, targets) => targets.iter().any(|target| target.parameter == *id),
        _ => false,
    };
    once(graph, o, targets, "update", updated)
}

/// Returns an error if `has` is true for an earlier operation and one of the targets.
fn once(
    graph: &Graph,
    o: &Operands,
    targets: &[ParameterId],
    what: &str,
    has: impl Fn(&Op, &ParameterId) -> bool,
) -> Result<()> {
    let repeated = |target: &&ParameterId| graph.nodes().iter().any(|node| has(&node.op, target));
    match targets.iter().find(repeated) {
        None => Ok(()),
        Some(id) => {
            let got = format!("a second {what} of {}", graph.parameters()[id.0].path);
            Err(Error::argument(o.label, format!("one {what} of each parameter"), got))
        }
    }
}
