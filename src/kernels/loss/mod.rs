//! Losses, softmax, and the running sums of training metrics.

mod element_loss;
mod label_weight_sum;
mod log_softmax;
pub(super) mod metrics;
mod predicted_class;
mod row;
mod soft_cross_entropy;
mod softmax;
mod softmax_cross_entropy;
mod softmax_grad;

pub(crate) use element_loss::{Criterion, element_loss, element_loss_grad};
pub(crate) use label_weight_sum::label_weight_sum;
pub(crate) use log_softmax::{log_softmax, log_softmax_grad};
pub(crate) use metrics::{Prediction, metrics};
pub(crate) use predicted_class::predicted_class;
pub(crate) use soft_cross_entropy::{soft_cross_entropy, soft_cross_entropy_grad};
pub(crate) use softmax::softmax;
pub(crate) use softmax_cross_entropy::{Target, softmax_cross_entropy, softmax_cross_entropy_grad};
pub(crate) use softmax_grad::softmax_grad;
