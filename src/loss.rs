//! Losses.

use crate::error::{Error, Result};
use crate::graph::{DType, Graph, Op, ValueId};
use crate::shape::Shape;

/// What training makes small: always a mean over the examples of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// `log(sum(exp(logits))) - logits[label]`, in nats.
    SoftmaxCrossEntropy,
    /// The same with smoothed labels or weighted classes: see [`Loss::cross_entropy`].
    CrossEntropy(CrossEntropy),
    /// `(output - target)^2`, the mean over all elements of an output of any shape.
    MeanSquaredError,
}

/// Softmax cross-entropy with options. With `w` the class weights, `e` the smoothing and `p` the softmax of a row of
/// `C` logits, its loss is `(1-e)*w[label]*(-log p[label]) + e/C * sum over c of w[c]*(-log p[c])`, and the mean is the sum
/// of the losses over the sum of the labels' weights (PyTorch's definition).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    smoothing: f64,
    weights: Option<Vec<f32>>,
}

impl CrossEntropy {
    /// The share of the target that all classes have together, from 0 to 1; 0 unless set.
    pub fn label_smoothing(mut self, smoothing: f64) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// A weight above 0 for each class; all 1 unless set.
    pub fn class_weights(mut self, weights: Vec<f32>) -> Self {
        self.weights = Some(weights);
        self
    }
}

impl From<CrossEntropy> for Loss {
    fn from(options: CrossEntropy) -> Self {
        Loss::CrossEntropy(options)
    }
}

/// What a loss adds to a graph.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Labels or targets.
    pub wanted: ValueId,
    /// The classes' weights, to be written once.
    pub weights: Option<(ValueId, Vec<f32>)>,
    /// The batch's mean loss, `[1]`.
    pub mean: ValueId,
}

impl Loss {
    /// Softmax cross-entropy, to be given options.
    pub fn cross_entropy() -> CrossEntropy {
        CrossEntropy::default()
    }

    /// Whether outputs are held against labels, so that there is an accuracy; else against targets.
    pub fn has_labels(&self) -> bool {
        !matches!(self, Loss::MeanSquaredError)
    }

    fn smoothing(&self) -> f64 {
        if let Loss::CrossEntropy(options) = self { options.smoothing } else { 0.0 }
    }

    fn weights(&self, classes: usize) -> Result<Option<Vec<f32>>> {
        let Loss::CrossEntropy(CrossEntropy { weights: Some(weights), .. }) = self else { return Ok(None) };
        if weights.len() != classes {
            return Err(Error::shape("class weights", format!("{classes}, one a class"), weights.len()));
        }
        match weights.iter().find(|w| !w.is_normal() || **w < 0.0) {
            Some(wrong) => Err(Error::argument("class weights", "finite weights above 0", wrong)),
            None => Ok(Some(weights.clone())),
        }
    }

    /// Appends the loss of `output`, `[n, classes]` where it has labels, and its part in the running sums.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::InvalidArgument`] for options out of their ranges.
    pub(crate) fn forward(&self, graph: &mut Graph, output: ValueId) -> Result<Placed> {
        let example = graph.at(output).shape.extents()[1..].to_vec();
        if !self.has_labels() {
            let wanted = graph.batch_input("targets", &example, DType::F32)?;
            let each = graph.push_one(Op::MeanSquaredError, &[output, wanted], "loss")?;
            let mean = graph.push_one(Op::Metrics, &[each], "metrics")?;
            graph.mark_output(mean)?;
            return Ok(Placed { wanted, weights: None, mean });
        }
        let &[classes] = example.as_slice() else {
            return Err(Error::shape("model output", "[classes]", format!("{example:?}")));
        };
        let wanted = graph.batch_input("labels", &[], DType::U32)?;
        let weights = match self.weights(classes)? {
            Some(weights) => {
                Some((graph.input("class weights", Shape::new([classes])?, DType::F32), weights))
            }
            None => None,
        };
        let mut operands = vec![output, wanted];
        operands.extend(weights.iter().map(|(id, _)| *id));
        let op = Op::SoftmaxCrossEntropy { smoothing: self.smoothing() };
        let each = graph.push_one(op, &operands, "loss")?;
        operands.insert(0, each);
        let mean = graph.push_one(Op::Metrics, &operands, "metrics")?;
        graph.mark_output(mean)?;
        Ok(Placed { wanted, weights, mean })
    }
}
