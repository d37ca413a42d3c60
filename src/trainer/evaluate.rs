//! Loss and accuracy on data that is not trained on.

use super::{Metrics, Trainer};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::StepScalars;
use std::fmt;

/// How a model does on a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss of an example, in nats. NaN if the loss of any batch was NaN or infinite.
    pub loss: f64,
    /// Share of examples whose largest output is at their label, from 0 to 1; over batches with a finite loss.
    pub accuracy: f64,
    /// Examples.
    pub examples: u64,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accuracy {:.4}, loss {:.4} on {} examples", self.accuracy, self.loss, self.examples)
    }
}

impl Trainer {
    /// Loss and accuracy on a whole data set, with the weights as they are. Nothing of the training state changes.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the examples or classes do not fit the model; [`Error::DeviceLost`],
    /// [`Error::Timeout`].
    pub fn evaluate(&self, data: &Dataset) -> Result<Evaluation> {
        if data.example_shape() != self.model.example_shape() {
            let expected = format!("examples of {:?}", self.model.example_shape());
            return Err(Error::shape(data.name(), expected, format!("{:?}", data.example_shape())));
        }
        if Some(&data.classes()) > self.model.output().first() {
            let expected = format!("at most {:?} classes", self.model.output());
            return Err(Error::shape(data.name(), expected, data.classes()));
        }
        let plan = &self.evaluation.plan;
        plan.clear_sums()?;
        plan.clear_non_finite()?;
        for batch in data.in_order(self.options.batch)? {
            self.evaluation.run(&batch.features, &batch.labels, StepScalars::forward(batch.rows()))?;
        }
        let sums = plan.sums()?;
        let Metrics { loss, accuracy, examples } = Metrics::new(&sums);
        let loss = if sums.non_finite_step.is_some() { f64::NAN } else { loss };
        Ok(Evaluation { loss, accuracy, examples })
    }
}
