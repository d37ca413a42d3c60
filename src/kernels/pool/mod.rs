//! Pooling.

pub(super) mod avg_pool2d;
mod avg_pool2d_grad;
mod global_avg_pool;
mod global_avg_pool_grad;
pub(super) mod max_pool2d;
mod max_pool2d_grad;
mod resample2d;

pub(crate) use avg_pool2d::avg_pool2d;
pub(crate) use avg_pool2d_grad::avg_pool2d_grad;
pub(crate) use global_avg_pool::{global_avg_pool, global_avg_pool_parallel};
pub(crate) use global_avg_pool_grad::global_avg_pool_grad;
pub(crate) use max_pool2d::{RUN, max_pool2d};
pub(crate) use max_pool2d_grad::max_pool2d_grad;
pub(crate) use resample2d::{ResampleTable, resample2d};
