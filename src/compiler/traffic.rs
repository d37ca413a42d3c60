//! Memory traffic of a plan: the bytes that each dispatch reads and writes, and the least that the graph needs.

use super::ir::Operation;
use super::program::{Binding, Dispatch};
use crate::gpu::Access;
use crate::graph::{Graph, Op, ValueId};
use crate::kernels::{Launch, Variant};
use std::collections::HashMap;

/// Bytes that a dispatch reads and writes, each range that it binds counted once. A range that a kernel
/// updates in place counts as read and as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub read: u64,
    pub written: u64,
}

/// Returns the traffic of each dispatch.
pub(super) fn of_dispatches(dispatches: &[Dispatch]) -> Vec<Traffic> {
    let mut accesses: HashMap<Variant, Vec<Access>> = HashMap::new();
    let mut of =
        |launch: &Launch| accesses.entry(launch.variant()).or_insert_with(|| launch.accesses()).clone();
    dispatches.iter().map(|dispatch| of_dispatch(dispatch, of(&dispatch.launch))).collect()
}

fn of_dispatch(dispatch: &Dispatch, accesses: Vec<Access>) -> Traffic {
    let mut traffic = Traffic::default();
    let storage = accesses.into_iter().filter(|&access| access != Access::Uniform);
    let bound: Vec<(&Binding, Access)> = dispatch.bindings.iter().zip(storage).collect();
    for (index, &(binding, access)) in bound.iter().enumerate() {
        // A kernel without a bias, say, binds another operand in its place and does not read it.
        let same =
            |other: &(&Binding, Access)| (other.0.buffer, other.0.offset) == (binding.buffer, binding.offset);
        if bound[..index].iter().any(same) {
            continue;
        }
        if access == Access::Read || dispatch.launch.in_place {
            traffic.read += binding.accessed;
        }
        if access == Access::ReadWrite {
            let written = dispatch.launch.written_elements.map_or(u64::MAX, |elements| 4 * elements as u64);
            traffic.written += binding.accessed.min(written);
        }
    }
    traffic
}

/// Returns the least bytes that operations read and write, if all but convolutions, matrix multiplications and
/// updates are fused into these: the operands and results of each of them, once. A result of which only a
/// fused ReLU or max-pool is stored counts with the size of that.
pub(super) fn minimum(graph: &Graph, operations: &[Operation], fully_frozen: &[bool]) -> u64 {
    let bytes = |id: ValueId| 4 * graph.at(id).shape.elements() as u64;
    let of = |operation: &Operation| match &operation.node.op {
        Op::Conv2d(_) | Op::Conv2dGradInput(_) | Op::Conv2dGradKernel(_) | Op::MatMul { .. } => {
            let operands: u64 = operation.node.inputs.iter().map(|&id| bytes(id)).sum();
            operands + bytes(operation.epilogue().output)
        }
        // Reads gradients, weights and state; writes weights and state.
        Op::Update(rule, targets) => targets
            .iter()
            .filter(|target| !fully_frozen[target.parameter.0])
            .map(|target| (3 + 2 * rule.slots().len() as u64) * bytes(graph.at_parameter(target.parameter)))
            .sum(),
        _ => 0,
    };
    operations.iter().map(of).sum()
}
