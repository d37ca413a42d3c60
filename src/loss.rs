//! Losses.

use crate::error::Result;
use crate::graph::{Graph, Op, ValueId};

/// What training makes small: always the mean over the examples of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// `log(sum(exp(logits))) - logits[label]`, in nats.
    SoftmaxCrossEntropy,
}

impl Loss {
    /// Appends the loss of `logits [n, classes]` against `labels [n]`, and its part in the running sums; gives the batch's mean,
    /// `[1]`.
    ///
    /// # Errors
    /// [`crate::Error::ShapeMismatch`].
    pub(crate) fn forward(self, graph: &mut Graph, logits: ValueId, labels: ValueId) -> Result<ValueId> {
        let each = graph.push_one(Op::SoftmaxCrossEntropy, &[logits, labels], "loss")?;
        let mean = graph.push_one(Op::Metrics, &[each, logits, labels], "metrics")?;
        graph.mark_output(mean)?;
        Ok(mean)
    }

    /// Appends the gradient of the mean in the logits.
    ///
    /// # Errors
    /// [`crate::Error::ShapeMismatch`].
    pub(crate) fn backward(self, graph: &mut Graph, logits: ValueId, labels: ValueId) -> Result<ValueId> {
        graph.push_one(Op::SoftmaxCrossEntropyGrad, &[logits, labels], "loss grad")
    }
}
