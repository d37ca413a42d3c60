//! Training: owns a model's plans, weights, masks and optimizer, and proves that frozen elements did not
//! change.

mod custom;
mod element_steps;
mod evaluate;
mod fit;
mod freeze;
mod frozen_prefix;
mod options;
mod plateau;
mod proof;
mod ranks;
mod state;
#[cfg(test)]
mod tests;

pub use evaluate::{Confusion, Evaluation};
pub use fit::{Epoch, Fit, Fitted};
pub use options::{GradientPolicy, OnNonFinite, ThawPolicy, TrainerOptions};
pub use plateau::FreezeOnPlateau;
pub use proof::{Changed, FreezeReport, TensorProof};
pub use state::{RewindState, Snapshot};

use crate::compiler::{BufferUse, PlanOptions, PlanReport, READ_SLOTS};
use crate::data::Batch;
use crate::engine::{Plan, RunningSums, Store, TimedDispatch};
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Gpu, ReadRing};
use crate::graph::{Clip, Op, ParameterId, StepScalars};
use crate::kernels::SUMS_BYTES;
use crate::loss::Loss;
use crate::mask::Mask;
use crate::model::{Model, ModelGraph, Updates};
use crate::optimizer::Optimizer;
use crate::rng::{Purpose, Stream};
use element_steps::ElementSteps;
use frozen_prefix::FrozenPrefix;
use proof::Baseline;
use ranks::Exchanged;
use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Trains a [`Model`] while individual elements of its parameters are frozen. The crate's documentation has
/// an example.
pub struct Trainer {
    gpu: Gpu,
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    options: TrainerOptions,
    store: Store,
    training: ModelPlan,
    /// Locked during a whole evaluation, because its batches share the plan's inputs and sums.
    evaluation: Mutex<ModelPlan>,
    report: PlanReport,
    /// Training step on cached features of the frozen layers; `None` if no cached features are valid.
    frozen_prefix: Option<FrozenPrefix>,
    masks: Vec<Mask>,
    baselines: Vec<Baseline>,
    element_steps: Vec<ElementSteps>,
    step: u64,
    /// Number of training runs so far: with the seed, it determines the random numbers of the next run.
    draws: u64,
    ring: ReadRing,
    /// The gradients that ranks exchange; `None` until they are needed, and after changes of masks.
    exchanged: Option<Exchanged>,
    progress: Option<Metrics>,
    /// Why training stopped, once the host has read that from the device.
    stopped: Option<Stopped>,
}

/// The first loss or update that was NaN or infinite.
struct Stopped {
    /// Its step.
    step: u64,
    /// The parameter whose update it was; `None` if it was the loss.
    path: Option<String>,
    /// Number of steps that updated the weights.
    steps: u64,
}

/// A plan, and the ids of its inputs and outputs.
struct ModelPlan {
    plan: Plan,
    values: ModelGraph,
}

/// Loss and accuracy over some examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// The mean loss per example, in nats for a cross-entropy; with class weights, the weighted mean.
    pub loss: f64,
    /// The number of examples whose prediction (the largest output) is their label; `None` for a loss without
    /// labels.
    pub correct: Option<u64>,
    /// The number of examples.
    pub examples: u64,
}

impl Metrics {
    fn new(sums: &RunningSums, loss: &Loss) -> Self {
        let examples = f64::from(sums.examples.max(1));
        let weight = if sums.weight > 0.0 { f64::from(sums.weight) } else { examples };
        Metrics {
            loss: f64::from(sums.loss) / weight,
            correct: loss.has_labels().then(|| sums.correct.into()),
            examples: sums.examples.into(),
        }
    }

    /// Returns the fraction of correct examples, from 0 to 1; NaN for a loss without labels.
    pub fn accuracy(&self) -> f64 {
        accuracy(self.correct, self.examples)
    }
}

fn accuracy(correct: Option<u64>, examples: u64) -> f64 {
    correct.map_or(f64::NAN, |correct| correct as f64 / examples.max(1) as f64)
}

impl ModelPlan {
    fn new(gpu: &Gpu, values: ModelGraph, store: &Store, options: &PlanOptions) -> Result<Self> {
        Self::with_constants(Plan::compile_with(gpu, &values.graph, store, options)?, values)
    }

    /// Combines a plan with its values, and writes the inputs that are the same in every run.
    fn with_constants(plan: Plan, values: ModelGraph) -> Result<Self> {
        if let Some((input, weights)) = &values.class_weights {
            plan.write_f32(*input, weights)?;
        }
        Ok(ModelPlan { plan, values })
    }

    /// Recompiles the plan for other masks and a store with the same parameters; `None` if the plan stays the
    /// same.
    fn recompile(&self, store: &Store, masks: &[Mask]) -> Result<Option<Self>> {
        let plan = self.plan.recompile_on(store, masks)?;
        plan.map(|plan| Self::with_constants(plan, self.values.clone())).transpose()
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        self.plan.write_f32(self.values.input, &batch.features)?;
        // The host computes the loss after the outputs.
        if self.values.output_gradient.is_some() {
            return Ok(());
        }
        if batch.targets.is_empty() {
            self.plan.write_u32(self.values.labels, &batch.labels)
        } else {
            self.plan.write_f32(self.values.labels, &batch.targets)
        }
    }

    fn run(&self, batch: &Batch, scalars: StepScalars) -> Result<()> {
        self.write(batch)?;
        self.plan.run(scalars)
    }
}

impl Trainer {
    /// Compiles a model for training and initializes its parameters. Nothing is frozen.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for hyper-parameters out of range, [`Error::EmptyBatch`],
    /// [`Error::LimitExceeded`] before anything is created, [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub fn new(
        gpu: &Gpu,
        model: Model,
        loss: impl Into<Loss>,
        optimizer: impl Into<Optimizer>,
        options: TrainerOptions,
    ) -> Result<Self> {
        let (loss, optimizer) = (loss.into(), optimizer.into());
        optimizer.check()?;
        let plan_options = options.plan();
        let updates = Updates::new(&model, &optimizer, options.accumulate)?;
        let training = model.training_graph(options.batch, loss.clone(), updates)?;
        let evaluation = model.evaluation_graph(options.batch, loss.clone())?;
        let report = report(
            &Plan::estimate(&training.graph, gpu.report(), &plan_options)?,
            &Plan::estimate(&evaluation.graph, gpu.report(), &plan_options)?,
        );
        gpu.check_budget("the trainer", report.bytes())?;
        let store = Store::new(gpu, &training.graph)?;
        for (index, parameter) in model.parameters().iter().enumerate() {
            let mut stream = Stream::new(options.seed, Purpose::Weights, index as u64);
            let (path, count) = (&parameter.path, parameter.shape.elements());
            let values = parameter.init.values(path, count, parameter.fan, &mut stream)?;
            store.write_weights(ParameterId::of(index), bytemuck::cast_slice(&values))?;
        }
        #[cfg(target_family = "wasm")]
        let _compiled =
            Plan::compile_together(gpu, [&training.graph, &evaluation.graph], &store, &plan_options)?;
        Ok(Trainer {
            masks: model.parameters().iter().map(|p| Mask::none_of(p.shape.elements())).collect(),
            baselines: vec![Baseline::default(); model.parameters().len()],
            element_steps: vec![ElementSteps::default(); model.parameters().len()],
            training: ModelPlan::new(gpu, training, &store, &plan_options)?,
            evaluation: Mutex::new(ModelPlan::new(gpu, evaluation, &store, &plan_options)?),
            report,
            frozen_prefix: None,
            ring: ReadRing::new(gpu, "progress", READ_SLOTS, SUMS_BYTES)?,
            gpu: gpu.clone(),
            model,
            loss,
            optimizer,
            options,
            store,
            step: 0,
            draws: 0,
            exchanged: None,
            progress: None,
            stopped: None,
        })
    }

    /// Returns the device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the loss.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// Returns the optimizer.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Returns the weights, state and masks on the device. Writes to the store bypass the trainer;
    /// [`Trainer::verify_frozen`] reports frozen elements that they changed.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the buffers and dispatches of a training step. The buffers are those of the whole trainer,
    /// including evaluation and read-back.
    pub fn report(&self) -> &PlanReport {
        &self.report
    }

    /// Returns the buffers and dispatches of a trainer on an adapter, without creating anything.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn estimate(
        adapter: &AdapterReport,
        model: &Model,
        loss: impl Into<Loss>,
        optimizer: impl Into<Optimizer>,
        options: &TrainerOptions,
    ) -> Result<PlanReport> {
        let (loss, optimizer) = (loss.into(), optimizer.into());
        optimizer.check()?;
        let updates = Updates::new(model, &optimizer, options.accumulate)?;
        let training = model.training_graph(options.batch, loss.clone(), updates)?;
        let evaluation = model.evaluation_graph(options.batch, loss)?;
        Ok(report(
            &Plan::estimate(&training.graph, adapter, &options.plan())?,
            &Plan::estimate(&evaluation.graph, adapter, &options.plan())?,
        ))
    }

    /// Returns the number of steps so far. Once a non-finite loss or update is reported, the steps that updated
    /// nothing are no longer counted: the step with that loss, or the one after that update, and all later
    /// ones.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Returns the smallest number of examples that a batch of a step may have: 2 if a batch norm normalizes by
    /// the statistics of the batch and has one value per channel and example, because one value has no
    /// variance; otherwise 1.
    pub fn smallest_batch(&self) -> usize {
        1 + usize::from(self.single_value_norm().is_some())
    }

    /// Returns the path of the first batch norm that computes statistics of a batch and has one value per
    /// channel and example.
    fn single_value_norm(&self) -> Option<&str> {
        let parameters = self.model.parameters();
        self.training.values.graph.nodes().iter().find_map(|node| match &node.op {
            Op::UpdateStatistics(rule, [mean, _]) if rule.per_example == 1 => {
                parameters[mean.index()].path.strip_suffix(".running_mean")
            }
            _ => None,
        })
    }

    /// Sets the base learning rate from the next step on; the schedule multiplies it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless it is finite and not negative.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.optimizer.set_learning_rate(learning_rate)
    }

    /// Trains one step: forward, backward, masked update. Returns when the work is submitted, at most three
    /// steps ahead of the device. If the loss ignores the labels of all examples, nothing is done.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`], [`Error::ShapeMismatch`], [`Error::LabelOutOfRange`], and
    /// [`Error::InvalidArgument`] if the schedule's learning rate is not a number from 0 to the largest f32:
    /// nothing was submitted. [`Error::NonFiniteLoss`] or [`Error::NonFiniteUpdate`] once metrics that were read
    /// from the device report one, until [`Trainer::forget_non_finite`]; [`Error::DeviceLost`],
    /// [`Error::Timeout`].
    pub fn step(&mut self, batch: &Batch) -> Result<()> {
        self.step_over(std::slice::from_ref(batch))
    }

    /// Trains one step over several batches (gradient accumulation): averages the gradients over all
    /// examples, then does a single update. Layers such as batch norm process each batch separately.
    /// [`Trainer::metrics`] counts every example.
    ///
    /// # Errors
    /// As [`Trainer::step`], for every batch before anything is submitted; [`Error::EmptyBatch`] for none;
    /// [`Error::InvalidArgument`] for more than one without [`TrainerOptions::accumulate`].
    pub fn step_over(&mut self, batches: &[Batch]) -> Result<()> {
        self.check_finite()?;
        self.validate_batches("Trainer::step_over", batches, self.model.example_shape())?;
        self.update_over(&self.counted(batches), false)
    }

    /// Trains one step and returns the mean loss of the batch before the update, in nats for a cross-entropy.
    /// Waits for the device.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::NonFiniteLoss`] if this loss is not finite, [`Error::NonFiniteUpdate`] if
    /// the update is not.
    pub fn step_loss(&mut self, batch: &Batch) -> Result<f32> {
        self.step(batch)?;
        if self.counted(std::slice::from_ref(batch)).is_empty() {
            return Ok(0.0);
        }
        let loss = self.training.plan.read_f32(self.training.values.mean_loss)?;
        // Although this loss is finite, an earlier one may have been non-finite. The running sums report
        // that, so check them too.
        let sums = self.training.plan.sums()?;
        self.metrics_of(&sums)?;
        Ok(loss.first().copied().unwrap_or(f32::NAN))
    }

    /// Trains one step and times each dispatch with the device's clock. Waits for the device.
    ///
    /// # Errors
    /// As [`Trainer::step`] and [`Plan::profile`].
    pub fn profile_step(&mut self, batch: &Batch) -> Result<Vec<TimedDispatch>> {
        self.check_finite()?;
        let example = self.model.example_shape();
        self.validate_batches("Trainer::profile_step", std::slice::from_ref(batch), example)?;
        self.profile(batch, false)
    }

    /// Returns loss and accuracy over all steps since the last call, each batch before its update. Waits for
    /// the device.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] and [`Error::NonFiniteUpdate`] unless [`OnNonFinite::Continue`] is set;
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn metrics(&mut self) -> Result<Metrics> {
        self.discard_pending_reads()?;
        let sums = self.training.plan.sums()?;
        let metrics = self.metrics_of(&sums)?;
        self.training.plan.clear_sums()?;
        self.progress = None;
        Ok(metrics)
    }

    /// Returns the latest metrics that were read without waiting for the device; `None` if none have arrived
    /// since the last call of [`Trainer::metrics`].
    pub fn progress(&self) -> Option<Metrics> {
        self.progress
    }

    /// Clears the report of a non-finite loss or update, so that updates continue with the current weights: for example
    /// after a change of the learning rate or of the data.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn forget_non_finite(&mut self) -> Result<()> {
        self.discard_pending_reads()?;
        self.step = self.updated_steps()?;
        self.training.plan.clear_non_finite()?;
        self.stopped = None;
        Ok(())
    }

    /// Returns the norm of the last step's gradient before clipping, over the elements that [`Clip::norm`]
    /// includes. Waits for the device.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the optimizer clips by norm; [`Error::DeviceLost`],
    /// [`Error::Timeout`].
    pub fn gradient_norm(&self) -> Result<f32> {
        match self.optimizer.clip_setting() {
            Some(Clip::Norm { .. }) => Ok(self.training.plan.sums()?.gradient_norm),
            other => {
                let got = format!("{other:?}");
                Err(Error::argument("Trainer::gradient_norm", "an optimizer with Clip::norm", got))
            }
        }
    }

    /// Returns the plan of a training step: on cached features of the frozen layers if `cached`, otherwise on
    /// examples.
    fn plan_of(&self, cached: bool) -> &ModelPlan {
        self.frozen_prefix.as_ref().filter(|_| cached).map_or(&self.training, |prefix| &prefix.training)
    }

    /// Returns the batches without the examples that the loss ignores, and without empty batches.
    fn counted<'a>(&self, batches: &'a [Batch]) -> Vec<Cow<'a, Batch>> {
        let counted = batches.iter().map(|batch| match self.loss.ignored_label() {
            Some(label) if batch.labels.contains(&label) => Cow::Owned(batch.without_label(label)),
            _ => Cow::Borrowed(batch),
        });
        counted.filter(|batch| batch.rows() > 0).collect()
    }

    /// Trains one step over batches; none if there are none.
    fn update_over(&mut self, batches: &[Cow<Batch>], cached: bool) -> Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        let total: usize = batches.iter().map(|batch| batch.rows()).sum();
        for (number, batch) in batches.iter().enumerate() {
            let mut scalars = self.scalars(batch);
            scalars.share = (batch.rows() as f64 / total as f64) as f32;
            scalars.first = u32::from(number == 0);
            scalars.last = u32::from(number + 1 == batches.len());
            self.plan_of(cached).run(batch, scalars)?;
            self.draws += 1;
        }
        self.count_step()
    }

    /// Counts a step, and reads its metrics if they are due.
    fn count_step(&mut self) -> Result<()> {
        self.step += 1;
        if self.options.progress_every > 0 {
            self.read_progress()?;
        }
        Ok(())
    }

    fn profile(&mut self, batch: &Batch, cached: bool) -> Result<Vec<TimedDispatch>> {
        let counted = self.counted(std::slice::from_ref(batch));
        let Some(batch) = counted.first() else { return Ok(Vec::new()) };
        let model_plan = self.plan_of(cached);
        model_plan.write(batch)?;
        let timed = model_plan.plan.profile(self.scalars(batch))?;
        self.step += 1;
        self.draws += 1;
        Ok(timed)
    }

    /// Whether updates go on after a loss that is not finite.
    fn continues(&self) -> bool {
        self.options.on_non_finite == OnNonFinite::Continue
    }

    fn scalars(&self, batch: &Batch) -> StepScalars {
        let mut scalars = self.optimizer.scalars(self.step, batch.rows());
        scalars.seed = [self.options.seed as u32, (self.options.seed >> 32) as u32];
        // The device counts draws modulo 2^32, so random numbers repeat after 4 billion runs.
        scalars.draw = self.draws as u32;
        scalars.on_non_finite_continue = self.continues().into();
        scalars
    }

    /// Stores the metrics that have arrived, and starts another read if one is due and a staging buffer is
    /// free.
    fn read_progress(&mut self) -> Result<()> {
        while let Some(sums) = self.ring.try_finish(&self.gpu, RunningSums::from_bytes)? {
            self.progress = Some(self.metrics_of(&sums)?);
        }
        if self.step.is_multiple_of(self.options.progress_every) && !self.ring.is_full() {
            self.training.plan.begin_sums(&mut self.ring)?;
        }
        Ok(())
    }

    fn discard_pending_reads(&mut self) -> Result<()> {
        while self.ring.pending() > 0 {
            self.ring.finish(&self.gpu, |_| ())?;
        }
        Ok(())
    }

    /// Returns the metrics, or the error for a non-finite loss or update. Steps that did not update anything
    /// are no longer counted.
    fn metrics_of(&mut self, sums: &RunningSums) -> Result<Metrics> {
        if let Some(stopped) = self.stopped(sums) {
            self.step = stopped.steps;
            self.stopped = Some(stopped);
        }
        self.check_finite()?;
        Ok(Metrics::new(sums, &self.loss))
    }

    /// Returns the number of steps with an update. Waits for the device.
    fn updated_steps(&self) -> Result<u64> {
        Ok(self.stopped(&self.training.plan.sums()?).map_or(self.step, |stopped| stopped.steps))
    }

    /// Locks the evaluation plan.
    fn evaluation(&self) -> MutexGuard<'_, ModelPlan> {
        self.evaluation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why training stopped, if the sums say so.
    fn stopped(&self, sums: &RunningSums) -> Option<Stopped> {
        if self.continues() {
            return None;
        }
        // The device reports steps modulo 2^32. Choose the latest step up to the current one that has this
        // remainder.
        let full = |low: u32| self.step.saturating_sub((self.step as u32).wrapping_sub(low).into());
        // The first step without an update.
        let skipped = sums.non_finite_step.map(full);
        if let Some(rejected) = sums.rejected {
            let step = full(rejected.step);
            let id = self.store.parameter_of_group(rejected.group);
            let path = id.map(|id| self.model.parameters()[id.index()].path.clone()).unwrap_or_default();
            return Some(Stopped { step, path: Some(path), steps: skipped.unwrap_or(step + 1) });
        }
        skipped.map(|step| Stopped { step, path: None, steps: step })
    }

    fn check_finite(&self) -> Result<()> {
        match &self.stopped {
            Some(Stopped { step, path: Some(path), .. }) => {
                Err(Error::NonFiniteUpdate { step: *step, path: path.clone() })
            }
            Some(Stopped { step, path: None, .. }) => Err(Error::NonFiniteLoss { step: *step }),
            None => Ok(()),
        }
    }

    /// Checks the batches of one update, whose examples have this shape, and its learning rate.
    fn validate_batches(&self, at: &str, batches: &[Batch], example: &[usize]) -> Result<()> {
        if self.loss == Loss::Custom {
            return Err(Error::argument(
                at,
                "a loss that the device computes",
                "Loss::Custom, for Trainer::step_with",
            ));
        }
        if batches.is_empty() {
            return Err(Error::EmptyBatch { at: at.into() });
        }
        if batches.len() > 1 && !self.options.accumulate {
            let expected = "one batch, or TrainerOptions::accumulate(true)";
            return Err(Error::argument(at, expected, format!("{} batches", batches.len())));
        }
        for batch in batches {
            self.validate_batch("Trainer::step", batch, example)?;
            self.check_statistics(batch)?;
        }
        self.optimizer.check_step(self.step)
    }

    /// Checks that a batch norm can compute statistics of a batch.
    fn check_statistics(&self, batch: &Batch) -> Result<()> {
        let rows = batch.rows();
        if rows >= self.smallest_batch() {
            return Ok(());
        }
        let at = self.single_value_norm().unwrap_or("batch");
        let expected = "2 values per channel or more, for the statistics of a training batch; use batches of 2 examples \
                        or more, or Model::use_running_statistics";
        Err(Error::argument(at, expected, format!("{rows} example with 1 value per channel")))
    }

    /// Checks the number of rows of a batch and its features.
    fn validate_features(&self, at: &str, batch: &Batch, example: &[usize]) -> Result<()> {
        let rows = batch.rows();
        if rows == 0 {
            return Err(Error::EmptyBatch { at: at.into() });
        }
        if rows > self.options.batch {
            let expected = format!(
                "at most {} rows, the batch size of this trainer; use smaller batches, or a larger \
                 TrainerOptions::batch",
                self.options.batch
            );
            return Err(Error::shape("batch", expected, format!("{rows} rows")));
        }
        self.check_features("batch", batch, example)
    }

    /// Checks the shapes and the labels of a batch.
    fn validate_batch(&self, at: &str, batch: &Batch, example: &[usize]) -> Result<()> {
        self.validate_features(at, batch, example)?;
        let rows = batch.rows();
        let output: usize = self.model.output().iter().product();
        let targets = if self.loss.has_labels() { 0 } else { rows * output };
        if batch.targets.len() != targets {
            let expected = format!("{targets} elements of targets for {rows} rows");
            return Err(Error::shape("batch", expected, format!("{} elements", batch.targets.len())));
        }
        if !self.loss.has_labels() {
            return self.loss.check_targets(&batch.targets);
        }
        let classes = self.model.output().first().copied().unwrap_or(0);
        let ignored = self.loss.ignored_label();
        let valid = |label: u32| (label as usize) < classes || Some(label) == ignored;
        match batch.labels.iter().position(|&label| !valid(label)) {
            Some(row) => Err(Error::LabelOutOfRange { row, label: batch.labels[row], classes }),
            None => Ok(()),
        }
    }

    /// Checks the number of features of a batch.
    fn check_features(&self, at: &str, batch: &Batch, example: &[usize]) -> Result<()> {
        let (rows, row) = (batch.rows(), example.iter().product::<usize>());
        if rows.checked_mul(row) == Some(batch.features.len()) {
            return Ok(());
        }
        let expected = format!("{rows} rows of {example:?}, {} features", rows.saturating_mul(row));
        Err(Error::shape(at, expected, format!("{} features", batch.features.len())))
    }
}

/// Returns the report of the training plan, with the memory of the evaluation plan and of the trainer's
/// read-back added.
fn report(training: &PlanReport, evaluation: &PlanReport) -> PlanReport {
    let mut report = training.clone();
    for BufferUse { name, bytes } in &evaluation.per_step {
        report.per_step.push(BufferUse { name: format!("evaluation {name}"), bytes: *bytes });
    }
    report.persistent.push(BufferUse { name: "progress".into(), bytes: READ_SLOTS as u64 * SUMS_BYTES });
    report
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("gpu", &self.gpu)
            .field("optimizer", &self.optimizer)
            .field("masks", &self.masks)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
