//! Updates.

use super::{Operands, ResultInfo};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, ParameterId, Role};

pub(super) fn update(graph: &Graph, o: &Operands, targets: &[ParameterId]) -> Result<Vec<ResultInfo>> {
    o.count(targets.len())?;
    let mut seen = vec![false; graph.parameters().len()];
    for (index, target) in targets.iter().enumerate() {
        let Some(parameter) = graph.parameters().get(target.0) else {
            return Err(Error::argument(o.label, "parameters of this graph", format!("number {}", target.0)));
        };
        if std::mem::replace(&mut seen[target.0], true) {
            return Err(Error::argument(o.label, "each parameter once", &parameter.path));
        }
        let taken = |node: &Node| matches!(&node.op, Op::Update(_, others) if others.contains(target));
        if graph.nodes().iter().any(taken) {
            let got = format!("a second one for {}", parameter.path);
            return Err(Error::argument(o.label, "one update of each parameter", got));
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
    Ok(Vec::new())
}
