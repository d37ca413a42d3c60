//! Training losses.

use crate::error::{Error, Result};
use crate::graph::{DType, ElementLoss, Graph, Op, ValueId};
use crate::shape::Shape;

/// A training loss; always the mean over the examples of a batch.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// Softmax cross-entropy of logits and class labels, `log(sum(exp(logits))) - logits[label]`, in nats.
    SoftmaxCrossEntropy,
    /// Softmax cross-entropy with label smoothing or class weights, created by [`Loss::cross_entropy`].
    CrossEntropy(CrossEntropy),
    /// Mean squared error of outputs of any shape: `(output - target)^2`, averaged over all elements.
    MeanSquaredError,
    /// Softmax cross-entropy of logits and a target for each class, such as probabilities of a teacher or mixed labels:
    /// `sum over c of target[c]*(log(sum(exp(logits))) - logits[c])`, in nats. Targets are 0 or more.
    SoftCrossEntropy,
    /// Binary cross-entropy of logits of any shape and targets from 0 to 1, averaged over all elements, in nats:
    /// `positive_weight*target*log(1 + exp(-logit)) + (1 - target)*log(1 + exp(logit))`. With weight 1 it is PyTorch's
    /// `BCEWithLogitsLoss`, with others that with `pos_weight`.
    BinaryCrossEntropy {
        /// Weight of the loss of positive targets, above 0: 3 if there are three times as many negative ones.
        positive_weight: f64,
    },
    /// Mean absolute error of outputs of any shape, averaged over all elements (PyTorch's `L1Loss`). Its gradient is 0
    /// where output and target are equal.
    L1,
    /// Huber loss of `d = output - target`, averaged over all elements: `d^2/2` where `|d| <= delta`, else
    /// `delta*(|d| - delta/2)` (PyTorch's `HuberLoss`).
    Huber {
        /// Difference at which the parabola becomes a line; above 0.
        delta: f64,
    },
    /// The Huber loss divided by `beta`: `d^2/(2*beta)` where `|d| <= beta`, else `|d| - beta/2` (PyTorch's
    /// `SmoothL1Loss`). With 0 it is [`Loss::L1`].
    SmoothL1 {
        /// Difference at which the parabola becomes a line; 0 or more.
        beta: f64,
    },
    /// A loss that the host computes from the outputs: [`Trainer::step_with`](crate::Trainer::step_with).
    Custom,
}

const _: () = crate::error::assert_send_sync::<Loss>();

/// Options of the softmax cross-entropy, as defined by PyTorch.
///
/// With class weights `w`, smoothing `e` and `p` the softmax of a row of `C` logits, the loss of the row is
/// `(1-e)*w[label]*(-log p[label]) + e/C * sum over c of w[c]*(-log p[c])`; the mean is the sum of the losses
/// divided by the sum of the labels' weights. Where that sum is 0, the mean is over the examples, so that it is
/// 0 without smoothing (in PyTorch NaN).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    label_smoothing: f64,
    class_weights: Option<Vec<f32>>,
    ignored_label: Option<u32>,
}

impl CrossEntropy {
    /// Sets the label smoothing, from 0 to 1: the share of the target distributed uniformly over all classes.
    /// Default: 0.
    pub fn label_smoothing(mut self, smoothing: f64) -> Self {
        self.label_smoothing = smoothing;
        self
    }

    /// Sets one weight per class, 0 or more; a class of weight 0 adds nothing to the loss, but counts for the
    /// accuracy. Default: all 1.
    pub fn class_weights(mut self, weights: Vec<f32>) -> Self {
        self.class_weights = Some(weights);
        self
    }

    /// Leaves out the examples with this label, which need not be below the number of classes (`255` in many
    /// data sets): they are neither trained on nor evaluated, as if the batches did not have them. Default:
    /// none.
    pub fn ignored_label(mut self, label: u32) -> Self {
        self.ignored_label = Some(label);
        self
    }
}

impl From<CrossEntropy> for Loss {
    fn from(options: CrossEntropy) -> Self {
        Loss::CrossEntropy(options)
    }
}

/// The values that a loss adds to a graph.
#[derive(Clone, Debug)]
pub(crate) struct LossValues {
    /// Input: labels `[batch]`, or targets of the shape of the model output.
    pub targets: ValueId,
    /// Input of a custom loss: its gradient with respect to the model output.
    pub output_gradient: Option<ValueId>,
    /// Input for the class weights and their values, to be written once.
    pub class_weights: Option<(ValueId, Vec<f32>)>,
    /// Loss of each example, `[batch]`.
    pub each: ValueId,
    /// Mean loss of the batch, `[1]`.
    pub mean: ValueId,
}

impl Loss {
    /// Softmax cross-entropy with options, which convert into a [`Loss`].
    pub fn cross_entropy() -> CrossEntropy {
        CrossEntropy::default()
    }

    /// Whether the loss compares outputs with class labels, which also gives an accuracy, instead of with
    /// targets.
    pub fn has_labels(&self) -> bool {
        matches!(self, Loss::SoftmaxCrossEntropy | Loss::CrossEntropy(_))
    }

    /// The operation that compares outputs with targets; `None` if the loss compares them with labels.
    fn of_targets(&self) -> Option<Op> {
        let huber = |threshold: f64, slope: f64| Op::ElementLoss(ElementLoss::Huber { threshold, slope });
        match *self {
            Loss::SoftmaxCrossEntropy | Loss::CrossEntropy(_) | Loss::Custom => None,
            Loss::MeanSquaredError => Some(Op::MeanSquaredError),
            Loss::SoftCrossEntropy => Some(Op::SoftCrossEntropy),
            Loss::BinaryCrossEntropy { positive_weight } => {
                Some(Op::ElementLoss(ElementLoss::BinaryCrossEntropy { positive_weight }))
            }
            Loss::L1 => Some(huber(0.0, 1.0)),
            Loss::Huber { delta } => Some(huber(delta, delta)),
            Loss::SmoothL1 { beta } => Some(huber(beta, 1.0)),
        }
    }

    /// Checks that targets are probabilities, if the loss needs such.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], naming the first that is not.
    pub(crate) fn check_targets(&self, targets: &[f32]) -> Result<()> {
        let (most, expected) = match self {
            Loss::BinaryCrossEntropy { .. } => (1.0, "a target from 0 to 1"),
            Loss::SoftCrossEntropy => (f32::MAX, "a target of 0 or more"),
            _ => return Ok(()),
        };
        match targets.iter().position(|target| !(0.0..=most).contains(target)) {
            None => Ok(()),
            Some(index) => {
                Err(Error::argument(format!("target {index} of the batch"), expected, targets[index]))
            }
        }
    }

    /// The label whose examples are left out.
    pub(crate) fn ignored_label(&self) -> Option<u32> {
        if let Loss::CrossEntropy(options) = self { options.ignored_label } else { None }
    }

    fn label_smoothing(&self) -> f64 {
        if let Loss::CrossEntropy(options) = self { options.label_smoothing } else { 0.0 }
    }

    /// The validated class weights.
    fn class_weights(&self, classes: usize) -> Result<Option<Vec<f32>>> {
        let Loss::CrossEntropy(CrossEntropy { class_weights: Some(weights), .. }) = self else {
            return Ok(None);
        };
        if weights.len() != classes {
            return Err(Error::shape("class weights", format!("{classes}, one per class"), weights.len()));
        }
        let valid = |w: f32| w == 0.0 || (w.is_normal() && w > 0.0);
        match weights.iter().find(|&&w| !valid(w)) {
            Some(weight) => Err(Error::argument("class weights", "0 or positive normal f32 numbers", weight)),
            None if weights.iter().all(|&w| w == 0.0) => {
                Err(Error::argument("class weights", "a weight above 0", "none"))
            }
            None => Ok(Some(weights.clone())),
        }
    }

    /// Appends the loss of `output` and its [`Op::Metrics`].
    ///
    /// # Errors
    /// - [`Error::ShapeMismatch`] if the loss is a softmax cross-entropy and `output` is not `[n, classes]`, or for a wrong
    ///   number of class weights.
    /// - [`Error::InvalidArgument`] for options out of range.
    pub(crate) fn forward(&self, graph: &mut Graph, output: ValueId) -> Result<LossValues> {
        let example = graph.at(output).shape.extents()[1..].to_vec();
        if *self == Loss::Custom {
            let output_gradient = graph.batch_input("output gradient", &example, DType::F32)?;
            graph.mark_output(output)?;
            let losses = graph.batch_input("losses", &[], DType::F32)?;
            let mean = graph.push_one(Op::Metrics, &[losses], "metrics")?;
            graph.mark_output(mean)?;
            let (targets, output_gradient) = (output_gradient, Some(output_gradient));
            return Ok(LossValues { targets, output_gradient, class_weights: None, each: losses, mean });
        }
        let of_targets = self.of_targets();
        if let Some(op) = of_targets.filter(|op| *op != Op::SoftCrossEntropy || example.len() == 1) {
            let targets = graph.batch_input("targets", &example, DType::F32)?;
            let losses = graph.push_one(op, &[output, targets], "loss")?;
            let mean = graph.push_one(Op::Metrics, &[losses], "metrics")?;
            graph.mark_output(mean)?;
            return Ok(LossValues {
                targets,
                output_gradient: None,
                class_weights: None,
                each: losses,
                mean,
            });
        }
        let &[classes] = example.as_slice() else {
            let expected =
                "[classes]; end the model with a flatten or a global average pool, and a dense layer";
            return Err(Error::shape("model output", expected, format!("{example:?}")));
        };
        let targets = graph.batch_input("labels", &[], DType::U32)?;
        let class_weights = match self.class_weights(classes)? {
            Some(weights) => {
                Some((graph.input("class weights", Shape::new([classes])?, DType::F32), weights))
            }
            None => None,
        };
        let mut operands = vec![output, targets];
        operands.extend(class_weights.iter().map(|(id, _)| *id));
        let op = Op::SoftmaxCrossEntropy { smoothing: self.label_smoothing() };
        let losses = graph.push_one(op, &operands, "loss")?;
        operands.insert(0, losses);
        let mean = graph.push_one(Op::Metrics, &operands, "metrics")?;
        graph.mark_output(mean)?;
        Ok(LossValues { targets, output_gradient: None, class_weights, each: losses, mean })
    }
}
