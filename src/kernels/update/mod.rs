//! Masked optimizer updates, gradient accumulation and clipping, and the digests of frozen elements.

mod accumulate;
mod adagrad_update;
mod adam_update;
mod clip_scale;
mod copy_elements;
pub(super) mod digest;
mod gradient_norm;
mod ranges;
mod rmsprop_update;
mod sgd_momentum_update;
mod sgd_update;

pub(crate) use accumulate::accumulate;
pub(crate) use adagrad_update::adagrad_update;
pub(crate) use adam_update::{AdamUpdate, adam_update, amsgrad_update};
pub(crate) use clip_scale::clip_scale;
pub(crate) use copy_elements::copy_elements;
pub(crate) use digest::SEGMENT_ELEMENTS;
pub use digest::digest;
pub(crate) use gradient_norm::{gradient_norm, norm_parts};
pub(crate) use ranges::{UpdateRange, UpdateRanges};
pub(crate) use rmsprop_update::{
    RmsPropUpdate, rmsprop_centered_momentum_update, rmsprop_centered_update, rmsprop_momentum_update,
    rmsprop_update,
};
pub(crate) use sgd_momentum_update::{SgdMomentumUpdate, sgd_momentum_update};
pub(crate) use sgd_update::sgd_update;
