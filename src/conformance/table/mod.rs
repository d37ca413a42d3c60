//! The rows of the table.

mod activations;
mod conv;
mod dropout;
mod losses;
mod matmul;
mod norm;
mod others;
mod partial;
mod pool;
mod tails;
mod updates;
mod winograd;

use super::case::{Case, DataKind, Operand, Ops, Wire, Work};
use crate::error::Result;
use crate::graph::Op;

/// All cases. Every [`Op`] is among them, over many geometries.
///
/// # Errors
/// None is to be expected: the table is fixed, and its geometries are checked like any other.
pub fn cases() -> Result<Vec<Case>> {
    let mut all = conv::cases()?;
    all.extend(losses::cases());
    all.extend(matmul::cases());
    all.extend(activations::cases());
    all.extend(dropout::cases());
    all.extend(norm::cases());
    all.extend(others::cases()?);
    all.extend(partial::cases()?);
    all.extend(pool::cases());
    all.extend(tails::cases());
    all.extend(updates::cases());
    all.extend(winograd::cases()?);
    Ok(all)
}

const KINDS: [DataKind; 2] = [DataKind::Integers, DataKind::Reals];

fn word(kind: DataKind) -> &'static str {
    match kind {
        DataKind::Integers => "integers",
        DataKind::Reals => "reals",
    }
}

/// One operation on operands in order. A batch of several rows runs with half of them, too.
fn single(name: String, op: Op, batch: usize, operands: Vec<Operand>, data: DataKind) -> Case {
    let wires = (0..operands.len()).map(Wire::Operand).collect();
    chain(name, batch, operands, vec![(op, wires)], data)
}

fn chain(
    name: String,
    batch: usize,
    operands: Vec<Operand>,
    nodes: Vec<(Op, Vec<Wire>)>,
    data: DataKind,
) -> Case {
    let has_batch = operands.iter().any(|o| o.batched);
    let short = if has_batch && batch > 1 { vec![batch.div_ceil(2)] } else { Vec::new() };
    let ops = Ops {
        batch,
        short,
        operands,
        nodes,
        data,
        keep_all: false,
        workspace_bytes: None,
        partial: None,
        winograd: false,
    };
    Case { name: format!("{name} {}", word(data)), work: Work::Ops(ops) }
}

/// The case changed by `change`, under a name that says so.
fn with(case: &Case, name: &str, change: impl FnOnce(&mut Ops)) -> Case {
    let mut case = case.clone();
    case.name = format!("{}, {name}", case.name);
    if let Work::Ops(ops) = &mut case.work {
        change(ops);
    }
    case
}
