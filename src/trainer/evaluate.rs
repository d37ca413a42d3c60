//! Loss, accuracy and outputs on data that is not trained on.

use super::{Confusion, Metrics, Trainer};
use crate::data::{Batch, Dataset};
use crate::error::{Error, Result};
use crate::graph::StepScalars;
use std::fmt;

/// How a model does on a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss of an example, as in [`Metrics`]. NaN if the loss of any batch was NaN or infinite.
    pub loss: f64,
    /// Share of examples whose largest output is at their label, from 0 to 1; over batches with a finite loss. `None` where
    /// there are targets and no labels.
    pub accuracy: Option<f64>,
    /// Examples.
    pub examples: u64,
    /// All examples by label and answer; `None` where there are targets and no labels.
    pub confusion: Option<Confusion>,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(accuracy) = self.accuracy {
            write!(f, "accuracy {accuracy:.4}, ")?;
        }
        write!(f, "loss {:.4} on {} examples", self.loss, self.examples)
    }
}

impl Trainer {
    /// Loss, accuracy and confusion on a whole data set, with the weights as they are. Nothing of the training state
    /// changes. Waits for the device.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the examples, classes or targets do not fit the model and the loss;
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn evaluate(&self, data: &Dataset) -> Result<Evaluation> {
        if data.example_shape() != self.model.example_shape() {
            let expected = format!("examples of {:?}", self.model.example_shape());
            return Err(Error::shape(data.name(), expected, format!("{:?}", data.example_shape())));
        }
        let wanted = (!self.loss.has_labels()).then(|| self.model.output());
        if data.target_shape() != wanted {
            let words =
                |shape: Option<&[usize]>| shape.map_or("labels".into(), |s| format!("targets of {s:?}"));
            return Err(Error::shape(data.name(), words(wanted), words(data.target_shape())));
        }
        let classes = self.model.output().first().copied().unwrap_or(0);
        if data.classes() > classes {
            return Err(Error::shape(data.name(), format!("at most {classes} classes"), data.classes()));
        }
        let plan = &self.evaluation.plan;
        plan.clear_sums()?;
        plan.clear_non_finite()?;
        let mut confusion = self.loss.has_labels().then(|| Confusion::new(classes));
        for batch in data.in_order(self.options.batch)? {
            self.evaluation.run(&batch, StepScalars::forward(batch.rows()))?;
            if let Some(confusion) = &mut confusion {
                confusion.add(&plan.read_f32(self.evaluation.values.logits)?, &batch.labels);
            }
        }
        let sums = plan.sums()?;
        let Metrics { loss, accuracy, examples } = Metrics::new(&sums, &self.loss);
        let loss = if sums.non_finite_step.is_some() { f64::NAN } else { loss };
        Ok(Evaluation { loss, accuracy, examples, confusion })
    }

    /// The model's outputs, `[rows, ..output]`, row-major, for `features`, `[rows, ..example_shape]`: any number of
    /// rows, none too. Waits for the device.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the features are not whole examples; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn predict(&self, features: &[f32]) -> Result<Vec<f32>> {
        let row: usize = self.model.example_shape().iter().product();
        let output: usize = self.model.output().iter().product();
        if !features.len().is_multiple_of(row) {
            let expected = format!("rows of {row} features, {:?}", self.model.example_shape());
            return Err(Error::shape("predict", expected, format!("{} features", features.len())));
        }
        let mut outputs = Vec::with_capacity(features.len() / row * output);
        for part in features.chunks(self.options.batch * row) {
            let rows = part.len() / row;
            // The loss is computed along with the outputs, of labels or targets that nobody looks at.
            let targets = if self.loss.has_labels() { Vec::new() } else { vec![0.0; rows * output] };
            let batch = Batch { features: part.to_vec(), labels: vec![0; rows], targets };
            self.evaluation.run(&batch, StepScalars::forward(rows))?;
            let all = self.evaluation.plan.read_f32(self.evaluation.values.logits)?;
            outputs.extend_from_slice(&all[..rows * output]);
        }
        Ok(outputs)
    }
}
