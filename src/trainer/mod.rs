//! Training: owns a model's plans, weights, masks and optimizer, and proves that frozen elements did not move.

mod access;
mod accumulate;
mod confusion;
mod evaluate;
mod freeze;
mod load;
mod methods;
mod options;
mod plateau;
mod prefix;
mod proof;
mod save;
mod statistics;

pub use confusion::Confusion;
pub use evaluate::Evaluation;
pub use methods::{RewindState, Snapshot};
pub use options::{GradientPolicy, OnNonFinite, ThawPolicy, TrainerOptions};
pub use plateau::FreezeOnPlateau;
pub use proof::{Changed, FreezeReport, TensorProof};

use crate::data::Batch;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, ReadRing};
use crate::graph::{ParameterId, StepScalars};
use crate::kernels::SUMS_BYTES;
use crate::loss::Loss;
use crate::mask::Mask;
use crate::model::{Model, ModelGraph, Updates};
use crate::optimizer::Optimizer;
use crate::plan::{Plan, PlanOptions, PlanReport, RunningSums, Store, TimedDispatch};
use crate::rng::{Purpose, Stream};
use prefix::Prefix;
use proof::Baseline;

/// Trains a [`Model`] with single elements of its parameters frozen. See the crate's text for an example.
pub struct Trainer {
    gpu: Gpu,
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    options: TrainerOptions,
    store: Store,
    training: Wired,
    evaluation: Wired,
    /// Steps on what the frozen layers give, if such features were made and hold.
    prefix: Option<Prefix>,
    masks: Vec<Mask>,
    baselines: Vec<Baseline>,
    /// Whether the training plan may be one for other masks.
    outdated: bool,
    step: u64,
    /// Runs that draw random numbers so far.
    draws: u64,
    ring: ReadRing,
    progress: Option<Metrics>,
}

/// A plan with the values that the trainer reads and writes.
struct Wired {
    plan: Plan,
    values: ModelGraph,
}

/// Loss and accuracy over some examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// Mean loss of an example, in nats where it is a cross-entropy; weighted by its label's weight where classes have some.
    pub loss: f64,
    /// Share of examples whose largest output is at their label, from 0 to 1; `None` where there are targets and no labels.
    pub accuracy: Option<f64>,
    /// Examples.
    pub examples: u64,
}

impl Metrics {
    fn new(sums: &RunningSums, loss: &Loss) -> Self {
        let examples = f64::from(sums.examples.max(1));
        let weight = if sums.weight > 0.0 { f64::from(sums.weight) } else { examples };
        Metrics {
            loss: f64::from(sums.loss) / weight,
            accuracy: loss.has_labels().then(|| f64::from(sums.correct) / examples),
            examples: sums.examples.into(),
        }
    }
}

impl Wired {
    fn new(gpu: &Gpu, values: ModelGraph, store: &Store, options: &PlanOptions) -> Result<Self> {
        let plan = Plan::compile_with(gpu, &values.graph, store, options)?;
        let wired = Wired { plan, values };
        wired.write_constants(&wired.plan)?;
        Ok(wired)
    }

    fn write_constants(&self, plan: &Plan) -> Result<()> {
        match &self.values.class_weights {
            Some((input, weights)) => plan.write_f32(*input, weights),
            None => Ok(()),
        }
    }

    /// Another plan in the place of this one, if these masks make a difference to what is computed.
    fn follow(&mut self, masks: &[Mask]) -> Result<()> {
        if let Some(plan) = self.plan.replan(masks)? {
            self.write_constants(&plan)?;
            self.plan = plan;
        }
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        self.plan.write_f32(self.values.input, &batch.features)?;
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
    /// Compiles a model for training and gives its parameters their first values. Nothing is frozen.
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
        Plan::estimate(&training.graph, gpu.report(), &plan_options)?;
        let store = Store::new(gpu, &training.graph)?;
        for (index, parameter) in model.parameters().iter().enumerate() {
            let mut stream = Stream::new(options.seed, Purpose::Weights, index as u64);
            let (path, count) = (&parameter.path, parameter.shape.elements());
            let values = parameter.init.values(path, count, parameter.fan, &mut stream)?;
            store.write_weights(ParameterId::of(index), bytemuck::cast_slice(&values))?;
        }
        Ok(Trainer {
            masks: model.parameters().iter().map(|p| Mask::none(p.shape.elements())).collect(),
            baselines: vec![Baseline::default(); model.parameters().len()],
            training: Wired::new(gpu, training, &store, &plan_options)?,
            evaluation: Wired::new(gpu, evaluation, &store, &plan_options)?,
            prefix: None,
            ring: ReadRing::new(gpu, "progress", 3, SUMS_BYTES)?,
            gpu: gpu.clone(),
            model,
            loss,
            optimizer,
            options,
            store,
            outdated: false,
            step: 0,
            draws: 0,
            progress: None,
        })
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The loss.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Weights, state and masks on the device. Writing them here goes behind the trainer's back:
    /// [`Trainer::verify_frozen`] will tell.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Buffers, bytes and dispatches of a training step.
    pub fn report(&self) -> &PlanReport {
        self.training.plan.report()
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Sets the base learning rate from the next step on: the schedule goes on to multiply it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless it is finite and 0 or more.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.optimizer.set_learning_rate(learning_rate)
    }

    /// One step: forward, backward, masked update. Returns when the work is submitted, at most three steps ahead of the
    /// device.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`], [`Error::ShapeMismatch`], [`Error::LabelOutOfRange`]: nothing was done then.
    /// [`Error::NonFiniteLoss`] if progress was read and told of one; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn step(&mut self, batch: &Batch) -> Result<()> {
        self.step_over(std::slice::from_ref(batch))
    }

    fn scalars(&self, batch: &Batch) -> StepScalars {
        let mut scalars = self.optimizer.scalars(self.step, batch.rows());
        scalars.seed = [self.options.seed as u32, (self.options.seed >> 32) as u32];
        // Modulo 2^32: only a repeat of all that is drawn would matter, and that is as far away.
        scalars.draw = self.draws as u32;
        scalars.on_non_finite_continue = (self.options.on_non_finite == OnNonFinite::Continue).into();
        scalars
    }

    /// One step, each dispatch timed by the device's own clock. Waits for the device.
    ///
    /// # Errors
    /// As [`Trainer::step`] and [`Plan::profile`].
    pub fn profile_step(&mut self, batch: &Batch) -> Result<Vec<TimedDispatch>> {
        self.check(batch, self.model.example_shape())?;
        self.follow_masks()?;
        self.profile(batch, false)
    }

    /// From examples or, if `above`, from what the frozen layers made of them.
    fn profile(&mut self, batch: &Batch, above: bool) -> Result<Vec<TimedDispatch>> {
        let wired = self.prefix.as_ref().filter(|_| above).map_or(&self.training, |prefix| &prefix.wired);
        wired.write(batch)?;
        let timed = wired.plan.profile(self.scalars(batch))?;
        self.step += 1;
        self.draws += 1;
        Ok(timed)
    }

    /// [`Trainer::step`], and then waits for the batch's mean loss (before the update), in nats.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::NonFiniteLoss`] if this loss is.
    pub fn step_loss(&mut self, batch: &Batch) -> Result<f32> {
        self.step(batch)?;
        let loss = self.training.plan.read_f32(self.training.values.mean_loss)?;
        let loss = loss.first().copied().unwrap_or(f32::NAN);
        if !loss.is_finite() && self.options.on_non_finite == OnNonFinite::Stop {
            self.metrics()?;
        }
        Ok(loss)
    }

    /// Loss and accuracy of all steps since the last call, each batch before its update. Waits for the device.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`], unless told to go on; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn metrics(&mut self) -> Result<Metrics> {
        while self.ring.pending() > 0 {
            self.ring.finish(&self.gpu, |_| ())?;
        }
        let metrics = self.judge(&self.training.plan.sums()?)?;
        self.training.plan.clear_sums()?;
        self.progress = None;
        Ok(metrics)
    }

    /// Forgets that a loss was not finite, so that updates go on with the weights as they are: after a change of the
    /// learning rate or of the data, say.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn forget_non_finite(&mut self) -> Result<()> {
        while self.ring.pending() > 0 {
            self.ring.finish(&self.gpu, |_| ())?;
        }
        self.training.plan.clear_non_finite()
    }

    /// The newest metrics that reached the host without waiting, since the last call of [`Trainer::metrics`].
    pub fn progress(&self) -> Option<Metrics> {
        self.progress
    }

    /// Takes what reads of the running sums have brought, and begins another if it is time and a slot is free.
    fn look(&mut self) -> Result<()> {
        while let Some(sums) = self.ring.try_finish(&self.gpu, RunningSums::from_bytes)? {
            self.progress = Some(self.judge(&sums)?);
        }
        if self.step.is_multiple_of(self.options.progress_every) && !self.ring.is_full() {
            self.training.plan.begin_sums(&mut self.ring)?;
        }
        Ok(())
    }

    fn judge(&self, sums: &RunningSums) -> Result<Metrics> {
        match sums.non_finite_step {
            Some(low) if self.options.on_non_finite == OnNonFinite::Stop => {
                // The device counts modulo 2^32; the step is one of the last.
                let back = (self.step as u32).wrapping_sub(low);
                Err(Error::NonFiniteLoss { step: self.step.saturating_sub(back.into()) })
            }
            _ => Ok(Metrics::new(sums, &self.loss)),
        }
    }

    /// Whether a batch has examples of this shape, and what the loss wants.
    fn check(&self, batch: &Batch, example: &[usize]) -> Result<()> {
        let rows = batch.rows();
        if rows == 0 {
            return Err(Error::EmptyBatch { at: "Trainer::step".into() });
        }
        if rows > self.options.batch {
            return Err(Error::shape("batch", format!("at most {} rows", self.options.batch), rows));
        }
        let row: usize = example.iter().product();
        if batch.features.len() != rows * row {
            let expected = format!("{rows} rows of {example:?}, {} features", rows * row);
            return Err(Error::shape("batch", expected, format!("{} features", batch.features.len())));
        }
        let output: usize = self.model.output().iter().product();
        let targets = if self.loss.has_labels() { 0 } else { rows * output };
        if batch.targets.len() != targets {
            let expected = format!("{targets} elements of targets for {rows} rows");
            return Err(Error::shape("batch", expected, format!("{} elements", batch.targets.len())));
        }
        if !self.loss.has_labels() {
            return Ok(());
        }
        let classes = self.model.output().first().copied().unwrap_or(0);
        match batch.labels.iter().position(|&label| label as usize >= classes) {
            Some(row) => Err(Error::LabelOutOfRange { row, label: batch.labels[row], classes }),
            None => Ok(()),
        }
    }
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
