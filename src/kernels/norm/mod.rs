//! Normalization.

mod batch_moments;
mod batch_norm;
mod batch_norm_grad_input;
mod batch_norm_grad_sums;
mod batch_statistics;
mod normalize;
mod update_statistics;

pub(crate) use batch_moments::{batch_moments, batch_moments_parallel};
pub(crate) use batch_norm::{NormEpilogue, batch_norm, batch_norm_parallel};
pub(crate) use batch_norm_grad_input::{batch_norm_grad_input, batch_norm_grad_input_parallel};
pub(crate) use batch_norm_grad_sums::{
    NormGradient, batch_norm_grad_merge, batch_norm_grad_merge_parallel, batch_norm_grad_sums,
    batch_norm_grad_sums_parallel,
};
pub(crate) use batch_statistics::{batch_statistics, batch_statistics_parallel};
pub(crate) use normalize::{ElementSets, normalize, normalize_grad};
pub(crate) use update_statistics::{RunningStatistic, update_statistics};
