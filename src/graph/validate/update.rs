//! Updates, and what is done to gradients before them.

use super::{Operands, ResultInfo};
use crate::error::{Error, Result};
use crate::graph::{Clip, Graph, Op, ParameterId, Role, Target};

pub(super) fn accumulate(graph: &Graph, o: &Operands, targets: &[ParameterId]) -> Result<Vec<ResultInfo>> {
    gradients(graph, o, targets)?;
    let accumulated = |op: &Op, id: &ParameterId| matches!(op, Op::Accumulate(ids) if ids.contains(id));
    once(graph, o, targets, "one accumulation of each parameter", accumulated)?;
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
        return Err(Error::argument(o.label, "one clip in a graph", "a second one"));
    }
    let (Clip::Norm { max: most, .. } | Clip::Value { limit: most }) = clip;
    if !(most.is_finite() && most > 0.0 && most <= f64::from(f32::MAX)) {
        return Err(Error::argument(o.label, "a finite limit above 0", most));
    }
    Ok(Vec::new())
}

pub(super) fn update(graph: &Graph, o: &Operands, targets: &[Target]) -> Result<Vec<ResultInfo>> {
    let ids: Vec<_> = targets.iter().map(|target| target.parameter).collect();
    gradients(graph, o, &ids)?;
    for target in targets {
        for factor in [target.learning_rate, target.weight_decay] {
            if !(factor.is_finite() && factor >= 0.0 && factor <= f64::from(f32::MAX)) {
                return Err(Error::argument(o.label, "finite factors, 0 or more", factor));
            }
        }
    }
    Ok(Vec::new())
}

/// Gradients of parameters of this graph, each once, none of which was updated before.
fn gradients(graph: &Graph, o: &Operands, targets: &[ParameterId]) -> Result<()> {
    o.count(targets.len())?;
    let mut seen = vec![false; graph.parameters().len()];
    for (index, target) in targets.iter().enumerate() {
        let Some(parameter) = graph.parameters().get(target.0) else {
            return Err(Error::argument(o.label, "parameters of this graph", format!("number {}", target.0)));
        };
        if std::mem::replace(&mut seen[target.0], true) {
            return Err(Error::argument(o.label, "each parameter once", &parameter.path));
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
            return Err(Error::argument(o.label, "gradients that are not parameters", &gradient.name));
        }
    }
    let updated = |op: &Op, id: &ParameterId| matches!(op, Op::Update(_, others) if others.iter().any(|t| t.parameter == *id));
    once(graph, o, targets, "one update of each parameter", updated)
}

/// Fails if an earlier operation has one of the targets already.
fn once(
    graph: &Graph,
    o: &Operands,
    targets: &[ParameterId],
    expected: &str,
    has: impl Fn(&Op, &ParameterId) -> bool,
) -> Result<()> {
    let taken = |target: &&ParameterId| graph.nodes().iter().any(|node| has(&node.op, target));
    match targets.iter().find(taken) {
        None => Ok(()),
        Some(id) => {
            let got = format!("a second one for {}", graph.parameters()[id.0].path);
            Err(Error::argument(o.label, expected, got))
        }
    }
}
