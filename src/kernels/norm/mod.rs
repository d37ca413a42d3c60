//! Batch normalization.

mod batch_moments;
mod batch_norm;
mod batch_norm_grad_input;
mod batch_norm_grad_scale;
mod batch_statistics;
mod update_statistics;

pub(crate) use batch_moments::{batch_moments, batch_moments_parallel};
pub(crate) use batch_norm::batch_norm;
pub(crate) use batch_norm_grad_input::batch_norm_grad_input;
pub(crate) use batch_norm_grad_scale::{batch_norm_grad_scale, batch_norm_grad_scale_parallel};
pub(crate) use batch_statistics::{batch_statistics, batch_statistics_parallel};
pub(crate) use update_statistics::{RunningStatistic, update_statistics};
