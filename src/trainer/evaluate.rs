//! Evaluation and prediction.

use super::{ModelPlan, Trainer, accuracy};
use crate::data::{Batch, Dataset, Loader};
use crate::engine::{Examples, Plan};
use crate::error::{Error, Result};
use crate::graph::{DType, Graph, ParameterId, ParameterKind, StepScalars};
use crate::loss::Loss;
use crate::mask::Score;
use crate::model::{InferenceGraph, Source};
use crate::ranks::Ranks;
use std::collections::BTreeMap;
use std::fmt;

/// The result of [`Trainer::evaluate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The mean loss per example, as in [`Metrics`](crate::trainer::Metrics), over the examples whose loss is
    /// finite; NaN if there are none.
    pub loss: f64,
    /// The number of examples whose loss is finite and whose prediction (the largest output) is their label;
    /// `None` for a loss without labels.
    pub correct: Option<u64>,
    /// The number of examples, including those whose loss is not finite.
    pub examples: u64,
    /// The number of examples whose loss is NaN or infinite: because of a NaN in their features, or because
    /// the weights overflow.
    pub non_finite: u64,
    /// Index in the data set of the first such example, without those that are left out.
    pub first_non_finite: Option<usize>,
    /// The confusion matrix of the examples whose loss is finite; `None` for a loss without labels.
    pub confusion: Option<Confusion>,
}

impl Evaluation {
    /// Returns the fraction of correct examples, from 0 to 1; NaN for a loss without labels.
    pub fn accuracy(&self) -> f64 {
        accuracy(self.correct, self.examples)
    }
}

/// What an evaluation adds up.
#[derive(Default)]
struct Sums {
    loss: f64,
    weight: f64,
    examples: u64,
    non_finite: u64,
    first_non_finite: Option<usize>,
    confusion: Option<Confusion>,
}

impl Sums {
    fn evaluation(self) -> Evaluation {
        let Sums { loss, weight, examples, non_finite, first_non_finite, confusion } = self;
        Evaluation {
            // Without any weight, as in a step; NaN if no example has a finite loss.
            loss: if weight == 0.0 && non_finite == 0 { 0.0 } else { loss / weight },
            correct: confusion.as_ref().map(Confusion::correct),
            examples,
            non_finite,
            first_non_finite,
            confusion,
        }
    }

    /// Adds the sums of all ranks, in the order of the ranks.
    fn over(self, ranks: &dyn Ranks) -> Result<Sums> {
        let none = u64::MAX;
        let counts = self.confusion.iter().flat_map(|confusion| &confusion.counts);
        let counts: Vec<u64> = counts.flat_map(|(&place, &count)| [place as u64, count]).collect();
        let words = [
            self.loss.to_bits(),
            self.weight.to_bits(),
            self.examples,
            self.non_finite,
            self.first_non_finite.map_or(none, |index| index as u64),
            counts.len() as u64,
        ];
        let all = ranks.all_gather_words(&words)?;
        let longest = all.iter().map(|words| words[5]).max().unwrap_or(0) as usize;
        let mut padded = counts;
        // Pairs that count nothing.
        padded.resize(longest, 0);
        let counts = ranks.all_gather_words(&padded)?;
        let floats = |word: usize| all.iter().map(|words| f64::from_bits(words[word])).sum();
        let integers = |word: usize| all.iter().map(|words| words[word]).sum();
        let first = all.iter().map(|words| words[4]).min().filter(|&first| first != none);
        let confusion = self.confusion.map(|own| {
            let mut sum = Confusion::new(own.classes);
            for pair in counts.iter().flat_map(|words| words.chunks_exact(2)).filter(|pair| pair[1] > 0) {
                *sum.counts.entry(pair[0] as usize).or_default() += pair[1];
            }
            sum
        });
        Ok(Sums {
            loss: floats(0),
            weight: floats(1),
            examples: integers(2),
            non_finite: integers(3),
            first_non_finite: first.map(|first| first as usize),
            confusion,
        })
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.correct.is_some() {
            write!(f, "accuracy {:.4}, ", self.accuracy())?;
        }
        write!(f, "loss {:.4} on {} examples", self.loss, self.examples)?;
        if let Some(first) = self.first_non_finite {
            let count = self.non_finite;
            write!(f, ", without {count} whose loss is not finite, the first at index {first}")?;
        }
        Ok(())
    }
}

impl Trainer {
    /// Computes loss, accuracy and confusion matrix on a data set. The batch size has no influence, and the
    /// training state does not change. Waits for the device.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the examples, classes or targets do not fit the model and the loss;
    /// [`Error::InvalidArgument`] with [`Loss::Custom`]; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn evaluate(&self, data: &Dataset) -> Result<Evaluation> {
        Ok(self.evaluate_batches(data, data.in_order(self.options.batch)?.map(Ok))?.evaluation())
    }

    /// Computes loss, accuracy and confusion matrix on examples that are read batch by batch, as [`Trainer::evaluate`].
    /// Examples that are left out do not count.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`], and those of [`Examples::read`](crate::data::Examples::read).
    pub fn evaluate_over(&self, data: &Loader) -> Result<Evaluation> {
        Ok(self.evaluate_batches(data.examples(), data.in_order(self.options.batch)?)?.evaluation())
    }

    /// As [`Trainer::evaluate_over`], but each rank evaluates its part of the batches, and all get the result over all
    /// examples. Losses are added in the order of the ranks, so the mean may differ from that of one rank in its last
    /// bits.
    ///
    /// # Errors
    /// As [`Trainer::evaluate_over`], on all ranks if on one: [`Error::Ranks`] on the others.
    pub fn evaluate_on(&self, ranks: &dyn Ranks, data: &Loader) -> Result<Evaluation> {
        let (rank, count, batch) = (ranks.rank(), ranks.count(), self.options.batch);
        let own = data.in_order(batch).and_then(|batches| batches.for_rank(rank, count, 1));
        let own = own.and_then(|batches| self.evaluate_batches(data.examples(), batches));
        let failed = ranks.all_gather_words(&[own.is_err().into()])?;
        let mut own = own?;
        if let Some(rank) = failed.iter().position(|words| words[0] != 0) {
            return Err(Error::Ranks { rank, why: "its examples cannot be evaluated".to_owned() });
        }
        // From the place among this rank's examples to that among all.
        own.first_non_finite =
            own.first_non_finite.map(|index| (index / batch * count + rank) * batch + index % batch);
        Ok(own.over(ranks)?.evaluation())
    }

    fn evaluate_batches(
        &self,
        data: &dyn crate::data::Examples,
        batches: impl Iterator<Item = Result<Batch>>,
    ) -> Result<Sums> {
        if self.loss == Loss::Custom {
            let expected =
                "a loss that the device computes; compute others from the outputs of Trainer::predict";
            return Err(Error::argument("Trainer::evaluate", expected, "Loss::Custom"));
        }
        if data.example_shape() != self.model.example_shape() {
            let expected = format!("examples of {:?}", self.model.example_shape());
            return Err(Error::shape(data.name(), expected, format!("{:?}", data.example_shape())));
        }
        let expected = (!self.loss.has_labels()).then(|| self.model.output());
        if data.target_shape() != expected {
            let words =
                |shape: Option<&[usize]>| shape.map_or("labels".into(), |s| format!("targets of {s:?}"));
            return Err(Error::shape(data.name(), words(expected), words(data.target_shape())));
        }
        let classes = self.model.output().first().copied().unwrap_or(0);
        let ignored = self.loss.ignored_label();
        let beyond = |label: &u32| *label as usize >= classes && Some(*label) != ignored;
        if data.classes() > classes && (ignored.is_none() || data.labels().iter().any(beyond)) {
            let expected = format!(
                "at most {classes} classes, the outputs of the model; give its last layer an output for each class"
            );
            return Err(Error::shape(data.name(), expected, format!("{} classes", data.classes())));
        }
        let evaluation = self.evaluation();
        let plan = &evaluation.plan;
        let class_weights = evaluation.values.class_weights.as_ref().map(|(_, weights)| weights);
        let mut sums =
            Sums { confusion: self.loss.has_labels().then(|| Confusion::new(classes)), ..Sums::default() };
        let mut first = 0;
        for batch in batches {
            let batch = batch?;
            let rows = batch.rows();
            let counted = self.counted(std::slice::from_ref(&batch));
            let Some(counted) = counted.first() else {
                first += rows;
                continue;
            };
            evaluation.run(counted, StepScalars::forward(counted.rows()))?;
            let losses = plan.read_f32(evaluation.values.losses)?;
            let outputs = match sums.confusion {
                Some(_) => plan.read_f32(evaluation.values.logits)?,
                None => Vec::new(),
            };
            let indices =
                (0..rows).filter(|&row| ignored.is_none() || batch.labels.get(row).copied() != ignored);
            for (row, (index, &row_loss)) in indices.zip(&losses).enumerate() {
                if !row_loss.is_finite() {
                    sums.non_finite += 1;
                    sums.first_non_finite.get_or_insert(first + index);
                    continue;
                }
                let label = counted.labels.get(row).copied();
                sums.loss += f64::from(row_loss);
                sums.weight +=
                    class_weights.zip(label).map_or(1.0, |(w, label)| f64::from(w[label as usize]));
                if let (Some(confusion), Some(label)) = (&mut sums.confusion, label) {
                    confusion.add(&outputs[row * classes..(row + 1) * classes], label);
                }
            }
            sums.examples += counted.rows() as u64;
            first += rows;
        }
        Ok(sums)
    }

    /// Computes the outputs of the model, `[rows, ..output]`, row-major, for `features`,
    /// `[rows, ..example_shape]`, with any number of rows. Waits for the device.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the number of features is not a multiple of that of one example;
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn predict(&self, features: &[f32]) -> Result<Vec<f32>> {
        let evaluation = self.evaluation();
        let ModelPlan { plan, values } = &*evaluation;
        // The evaluation graph also computes the loss, so it needs labels or targets. The loss is not read, so
        // zeros suffice.
        let labels = plan.graph().at(values.labels);
        match labels.dtype {
            DType::F32 => plan.write_f32(values.labels, &vec![0.0; labels.shape.elements()])?,
            DType::U32 => plan.write_u32(values.labels, &vec![0; labels.shape.elements()])?,
        }
        let input = Examples { name: "predict", value: values.input, elements: features };
        Ok(plan.predict(&[input], &[values.logits])?.concat())
    }

    /// Computes the outputs of a layer in evaluation mode, `[rows, ..]` with the shape of
    /// [`NamedLayer::output`](crate::model::NamedLayer::output), row-major, for the features of a batch with any
    /// number of rows. Its labels and targets are not used. Compiles a plan in each call. Waits for the device.
    ///
    /// ```
    /// use frazil::{Digits, Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
    ///
    /// let gpu = Gpu::new(GpuOptions::default())?;
    /// let options = TrainerOptions::batch(64);
    /// let trainer = Trainer::new(&gpu, Model::digits()?, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options)?;
    /// let batch = Digits::test()?.in_order(5)?.next().unwrap();
    /// let activations = trainer.activations("conv1", &batch)?;
    /// assert_eq!(activations.len(), 5 * 8 * 8 * 16);
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if no layer has this name; [`Error::ShapeMismatch`] if the features are not those
    /// of the batch's number of examples; [`Error::LimitExceeded`], [`Error::OutOfMemory`], [`Error::DeviceLost`],
    /// [`Error::Timeout`].
    pub fn activations(&self, layer: &str, batch: &Batch) -> Result<Vec<f32>> {
        let at = "Trainer::activations";
        let mut names = self.model.layers().iter().map(|named| named.name());
        let Some(index) = names.position(|name| name == layer) else {
            let names = self.model.layers().iter().map(|named| named.name());
            return Err(Error::unknown_layer(at, layer, names));
        };
        self.check_features(at, batch, self.model.example_shape())?;
        let rows = batch.rows().clamp(1, self.options.batch);
        let InferenceGraph { graph, inputs, outputs } = self.model.graph_of(&[Source::Layer(index)], rows)?;
        let plan = self.compile(at, &graph)?;
        let input = Examples { name: at, value: inputs[0], elements: &batch.features };
        Ok(plan.predict(&[input], &outputs)?.concat())
    }

    /// Computes the gradient of the mean loss of a batch with respect to its features, `[rows, ..example_shape]`,
    /// row-major, in evaluation mode: batch norms use their running statistics, dropout is the identity. Examples
    /// that the loss ignores have gradient 0. Compiles a plan in each call. Waits for the device.
    ///
    /// ```
    /// use frazil::{Digits, Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
    ///
    /// let gpu = Gpu::new(GpuOptions::default())?;
    /// let options = TrainerOptions::batch(64);
    /// let trainer = Trainer::new(&gpu, Model::digits()?, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options)?;
    /// let batch = Digits::test()?.in_order(5)?.next().unwrap();
    /// let gradient = trainer.input_gradient(&batch)?;
    /// assert_eq!(gradient.len(), batch.features.len());
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::EmptyBatch`], [`Error::ShapeMismatch`] for more rows than the batch size of the trainer and for
    /// other features or targets, [`Error::LabelOutOfRange`]; [`Error::LimitExceeded`], [`Error::OutOfMemory`],
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn input_gradient(&self, batch: &Batch) -> Result<Vec<f32>> {
        let at = "Trainer::input_gradient";
        self.validate_batch(at, batch, self.model.example_shape())?;
        let counted = self.counted(std::slice::from_ref(batch));
        let Some(counted) = counted.first() else { return Ok(vec![0.0; batch.features.len()]) };
        let mut values = self.model.evaluation_graph(counted.rows(), self.loss.clone())?;
        let gradient = values.graph.backward(values.mean_loss, &[values.input])?[0];
        values.graph.mark_output(gradient)?;
        let plan = self.compile(at, &values.graph)?;
        let model_plan = ModelPlan::with_constants(plan, values)?;
        model_plan.run(counted, StepScalars::forward(counted.rows()))?;
        let found = model_plan.plan.read_f32(gradient)?;
        let row = found.len() / counted.rows();
        let mut found = found.chunks_exact(row);
        let ignored = self.loss.ignored_label();
        let mut gradient = vec![0.0; batch.features.len()];
        for (gradient, label) in gradient.chunks_exact_mut(row).zip(&batch.labels) {
            if ignored != Some(*label)
                && let Some(found) = found.next()
            {
                gradient.copy_from_slice(found);
            }
        }
        Ok(gradient)
    }

    /// Accumulates a score of each element of the trained parameters over batches, for [`FreezeRule::scores_by_path`].
    /// Gradients are those of the mean loss of each batch in evaluation mode: batch norms use their running
    /// statistics, dropout is the identity. Frozen elements have scores, too. Nothing of the trainer changes. Returns
    /// paths and scores in the model's order. Compiles a plan in each call, and reads the gradients of each batch.
    ///
    /// ```
    /// use frazil::mask::Score;
    /// use frazil::{Digits, FreezeRule, Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
    ///
    /// // Train only the 5 % of the weights that matter most to these examples (SNIP).
    /// let gpu = Gpu::new(GpuOptions::default())?;
    /// let options = TrainerOptions::batch(64);
    /// let mut trainer = Trainer::new(&gpu, Model::digits()?, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options)?;
    /// let scores = trainer.scores(Score::WeightGradient, Digits::train()?.batches(64, 7)?.take(4))?;
    /// let rule = FreezeRule::top_score(0.05, Score::WeightGradient).global().scores_by_path(scores);
    /// trainer.freeze("*.kernel", rule)?;
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Trainer::input_gradient`]; [`Error::EmptyBatch`] without examples that the loss counts;
    /// [`Error::InvalidArgument`] if a score is not finite.
    ///
    /// [`FreezeRule::scores_by_path`]: crate::FreezeRule::scores_by_path
    pub fn scores(
        &self,
        score: Score,
        batches: impl IntoIterator<Item = Batch>,
    ) -> Result<Vec<(String, Vec<f32>)>> {
        let at = "Trainer::scores";
        let mut values = self.model.evaluation_graph(self.options.batch, self.loss.clone())?;
        let trained = |&id: &ParameterId| self.model.parameters()[id.index()].kind == ParameterKind::Trained;
        let ids: Vec<_> = (0..self.model.parameters().len()).map(ParameterId::of).filter(trained).collect();
        let wanted: Vec<_> = ids.iter().map(|&id| values.graph.at_parameter(id)).collect();
        let gradients = values.graph.backward(values.mean_loss, &wanted)?;
        gradients.iter().try_for_each(|&gradient| values.graph.mark_output(gradient))?;
        let model_plan = ModelPlan::with_constants(self.compile(at, &values.graph)?, values)?;
        let weights = ids.iter().map(|&id| self.store.read_weights(id)).collect::<Result<Vec<_>>>()?;
        let mut sums: Vec<Vec<f64>> = weights.iter().map(|weights| vec![0.0; weights.len()]).collect();
        let mut examples = 0;
        for batch in batches {
            self.validate_batch(at, &batch, self.model.example_shape())?;
            let counted = self.counted(std::slice::from_ref(&batch));
            let Some(counted) = counted.first() else { continue };
            examples += counted.rows();
            model_plan.run(counted, StepScalars::forward(counted.rows()))?;
            for ((sums, weights), &gradient) in sums.iter_mut().zip(&weights).zip(&gradients) {
                for ((sum, &weight), gradient) in
                    sums.iter_mut().zip(weights).zip(model_plan.plan.read_f32(gradient)?)
                {
                    *sum += score.of(f32::from_bits(weight), gradient);
                }
            }
        }
        if examples == 0 {
            return Err(Error::EmptyBatch { at: at.to_owned() });
        }
        let named = ids.iter().zip(sums).map(|(id, sums)| {
            let path = self.model.parameters()[id.index()].path.clone();
            match sums.iter().position(|sum| !sum.is_finite()) {
                None => Ok((path, sums.into_iter().map(|sum| sum as f32).collect())),
                Some(index) => {
                    let expected = "finite gradients and weights; check the examples and the weights";
                    Err(Error::argument(at, expected, format!("{} at {path}[{index}]", sums[index])))
                }
            }
        });
        named.collect()
    }

    /// Compiles a graph of this model on the trainer's parameters.
    fn compile(&self, at: &str, graph: &Graph) -> Result<Plan> {
        let options = self.options.plan();
        let report = Plan::estimate(graph, self.gpu.report(), &options)?;
        self.gpu.check_budget(at, report.per_step.iter().map(|buffer| buffer.bytes).sum())?;
        Plan::compile_with(&self.gpu, graph, &self.store, &options)
    }
}

/// A confusion matrix: the number of examples by label (rows) and prediction (columns). The prediction is the
/// class of the largest output, the first of equal ones; a NaN is never the largest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// Numbers of examples above 0, by `label * classes + prediction`: with many classes, most are 0.
    counts: BTreeMap<usize, u64>,
}

impl Confusion {
    fn new(classes: usize) -> Self {
        Confusion { classes, counts: BTreeMap::new() }
    }

    /// Counts an example by its outputs, `[classes]`, and its label, which must be below `classes`.
    fn add(&mut self, outputs: &[f32], label: u32) {
        let mut prediction = 0;
        for (class, x) in outputs.iter().enumerate() {
            if *x > outputs[prediction] {
                prediction = class;
            }
        }
        *self.counts.entry(label as usize * self.classes + prediction).or_default() += 1;
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the number of examples of class `label` with this prediction; 0 for classes that do not exist.
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        let index = label * self.classes + prediction;
        self.counts.get(&index).copied().filter(|_| label.max(prediction) < self.classes).unwrap_or(0)
    }

    /// Returns the number of correct predictions.
    pub fn correct(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }
}

impl fmt::Display for Confusion {
    /// Writes a table with one line per label and one column per prediction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.counts.values().copied().max().unwrap_or(0).max(self.classes as u64);
        let width = most.to_string().len() + 1;
        write!(f, "label\\prediction")?;
        for prediction in 0..self.classes {
            write!(f, "{prediction:>width$}")?;
        }
        for label in 0..self.classes {
            write!(f, "\n{label:>16}")?;
            for prediction in 0..self.classes {
                write!(f, "{:>width$}", self.count(label, prediction))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_labels_and_columns_predictions() {
        let mut confusion = Confusion::new(3);
        let outputs = [0.0, 2.0, 1.0, 5.0, 5.0, 0.0, f32::NEG_INFINITY, -1.0, f32::NAN];
        for (outputs, label) in outputs.chunks(3).zip([2, 0, 1]) {
            confusion.add(outputs, label);
        }
        assert_eq!((confusion.count(2, 1), confusion.count(0, 0), confusion.count(1, 1)), (1, 1, 1));
        assert_eq!((confusion.count(1, 2), confusion.count(3, 0), confusion.correct()), (0, 0, 2));
        let text = confusion.to_string();
        let expected =
            "label\\prediction 0 1 2\n               0 1 0 0\n               1 0 1 0\n               2 0 1 0";
        assert_eq!(text, expected);
    }
}
