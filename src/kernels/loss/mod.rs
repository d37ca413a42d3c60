//! Losses, softmax, and the running sums of training metrics.

mod label_weight_sum;
mod mean_squared_error;
mod mean_squared_error_grad;
pub(super) mod metrics;
mod predicted_class;
mod row;
mod softmax;
mod softmax_cross_entropy;
mod softmax_grad;

pub(crate) use label_weight_sum::label_weight_sum;
pub(crate) use mean_squared_error::mean_squared_error;
pub(crate) use mean_squared_error_grad::mean_squared_error_grad;
pub(crate) use metrics::{Prediction, metrics};
pub(crate) use predicted_class::predicted_class;
pub(crate) use softmax::softmax;
pub(crate) use softmax_cross_entropy::{Target, softmax_cross_entropy, softmax_cross_entropy_grad};
pub(crate) use softmax_grad::softmax_grad;
