//! Passes over the compiler's operations. Each takes and returns a list, or analyses the graph.

mod bias_grad;
mod epilogue;
mod frozen_work;
mod loss_grad;
mod norm;
mod pool_grad;

pub(super) use bias_grad::fuse_bias_grads;
pub(super) use epilogue::fuse_epilogues;
pub(super) use frozen_work::{FrozenWork, frozen_work, weight_gradient};
pub(super) use loss_grad::fuse_loss_grads;
pub(super) use norm::{fuse_norms, merge_in_readers};
pub(super) use pool_grad::fuse_relu_grad_into_pool_grad;

use super::ir::Operation;
use crate::graph::Op;

/// Whether an operation reads gradients of parameters, which are stored in the arena of gradients.
fn reads_gradients(op: &Op) -> bool {
    matches!(op, Op::Accumulate(_) | Op::Clip(..) | Op::Update(..))
}

/// Whether one of these operations changes a value that an earlier operation computed.
fn changes_memory(operations: &[Operation]) -> bool {
    let changes = |operation: &Operation| {
        reads_gradients(&operation.node.op) || matches!(operation.node.op, Op::UpdateStatistics(..))
    };
    operations.iter().any(changes)
}
