//! Dropout.

use super::Mode;
use crate::error::{Error, Result};
use crate::graph::{Dropout, Graph, Op, ValueId};

pub(super) fn check(name: &str, rate: f64) -> Result<()> {
    if (0.0..1.0).contains(&rate) {
        return Ok(());
    }
    Err(Error::argument(name, "a rate from 0 to below 1", rate))
}

/// Nothing in evaluation, nor at rate 0: the output is then the input.
pub(super) fn forward(graph: &mut Graph, name: &str, rate: f64, x: ValueId, mode: Mode) -> Result<ValueId> {
    check(name, rate)?;
    if mode == Mode::Evaluation || rate == 0.0 {
        return Ok(x);
    }
    // Numbered in the order of the forward pass, branches of joins included, so that no two of a model are equal.
    let earlier = graph.nodes().iter().filter(|node| matches!(node.op, Op::Dropout(_))).count();
    let layer = u32::try_from(earlier).map_err(|_| Error::argument(name, "fewer dropouts", earlier))?;
    graph.push_one(Op::Dropout(Dropout { rate, layer }), &[x], name)
}
