//! Passes over the compiler's operations. Each takes and returns a list, or analyses the graph.

mod bias_grad;
mod epilogue;
mod frozen_work;
mod norm;
mod pool_grad;

pub(super) use bias_grad::fuse_bias_grads;
pub(super) use epilogue::fuse_epilogues;
pub(super) use frozen_work::{FrozenWork, frozen_work, weight_gradient};
pub(super) use norm::{fuse_norms, merge_in_readers};
pub(super) use pool_grad::fuse_relu_grad_into_pool_grad;
