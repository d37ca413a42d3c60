//! Constructors of cases.

use crate::compiler::Winograd;
use crate::conformance::case::{Case, DataKind, Operand, Ops, Wire, Work};
use crate::graph::Op;

/// Both kinds of data.
pub(super) const KINDS: [DataKind; 2] = [DataKind::Integers, DataKind::Reals];

/// Lengths of tensors whose last vec4 has one, two and three elements.
pub(super) const INCOMPLETE_LENGTHS: [usize; 3] = [5, 6, 7];

/// Special values with their names; each is injected into a single element of an incomplete vec4.
pub(super) const SPECIAL_VALUES: [(&str, f32); 4] =
    [("NaN", f32::NAN), ("infinity", f32::INFINITY), ("-infinity", f32::NEG_INFINITY), ("-0", -0.0)];

/// Creates a case of one operation that reads the operands in order. A batch of several rows also runs with
/// half of its rows.
pub(super) fn single(name: String, op: Op, batch: usize, operands: Vec<Operand>, data: DataKind) -> Case {
    let wires = (0..operands.len()).map(Wire::Operand).collect();
    chain(name, batch, operands, vec![(op, wires)], data)
}

/// Creates a case of several operations. A batch of several rows also runs with half of its rows.
pub(super) fn chain(
    name: String,
    batch: usize,
    operands: Vec<Operand>,
    nodes: Vec<(Op, Vec<Wire>)>,
    data: DataKind,
) -> Case {
    let has_batch = operands.iter().any(|o| o.batched);
    let short_batches = if has_batch && batch > 1 { vec![batch.div_ceil(2)] } else { Vec::new() };
    let ops = Ops {
        batch,
        short_batches,
        operands,
        nodes,
        data,
        keep_all: false,
        workspace_bytes: None,
        max_iterations: None,
        partial: None,
        winograd: Winograd::Auto,
    };
    Case { name: format!("{name} {data}"), work: Work::Ops(ops) }
}

/// Returns the case with sums divided as if one invocation could execute only this many loop iterations.
pub(super) fn limited(case: &Case, iterations: usize) -> Case {
    with(case, &format!("{iterations} iterations"), |ops| ops.max_iterations = Some(iterations))
}

/// Returns the case modified by `change`, with `, suffix` appended to its name.
pub(super) fn with(case: &Case, suffix: &str, change: impl FnOnce(&mut Ops)) -> Case {
    let case = Case { name: format!("{}, {suffix}", case.name), work: case.work.clone() };
    case.with_ops(change)
}
