//! Training on cached features: the outputs of the lowest, fully frozen layers are computed once.

use super::{GradientPolicy, ModelPlan, Trainer};
use crate::compiler::PlanReport;
use crate::data::{Batch, Dataset, Examples, Loader};
use crate::engine::{Plan, TimedDispatch};
use crate::error::{Error, Result};
use crate::graph::{Clip, ParameterId, ParameterKind, StepScalars};
use crate::host_memory;
use crate::mask::Mask;
use crate::model::{NamedLayer, Updates};

/// Training step on the cached features of the lowest layers.
pub(super) struct FrozenPrefix {
    /// Number of layers that the step skips.
    layers: usize,
    /// Number of parameters of these layers.
    parameters: usize,
    /// Shape of the features of one example.
    example: Vec<usize>,
    pub training: ModelPlan,
}

impl Trainer {
    /// Returns the number of lowest layers whose outputs for an example never change: all their parameters
    /// are fully frozen, running statistics included; none of them is random (dropout) or depends on the batch
    /// (batch norm, unless it uses the running statistics); and none of their gradients is needed. 0 if all parameters are frozen.
    pub fn frozen_prefix(&self) -> usize {
        let over_all = matches!(self.optimizer.clip_setting(), Some(Clip::Norm { over_all: true, .. }));
        if over_all || self.options.gradient_policy == GradientPolicy::Dense {
            return 0;
        }
        let fully_frozen = |mask: &Mask| mask.frozen_count() == mask.len();
        if self.masks.iter().all(fully_frozen) {
            return 0;
        }
        let layers = self.model.layers();
        let is_constant = |layer: &&NamedLayer| {
            layer.layer().is_fixed() && self.masks[layer.parameters()].iter().all(fully_frozen)
        };
        let constant = layers.iter().take_while(is_constant).count();
        let frozen = self.model.cuts().take_while(|&end| end <= constant).last().unwrap_or(0);
        // Without parameters, the lowest layers (such as a flatten) take too little time for a cache to be
        // useful.
        let has_parameters = layers[..frozen].iter().any(|layer| !layer.parameters().is_empty());
        if has_parameters { frozen } else { 0 }
    }

    /// Returns why [`Trainer::frozen_prefix`] is 0, and what to do about it.
    fn why_no_prefix(&self) -> String {
        let trainable = |index: usize| self.masks[index].len() - self.masks[index].frozen_count();
        let trained = |index: &usize| self.model.parameters()[*index].kind == ParameterKind::Trained;
        if (0..self.masks.len()).filter(trained).all(|index| trainable(index) == 0) {
            return "all parameters frozen: nothing trains, so evaluate the model instead".to_owned();
        }
        if self.options.gradient_policy == GradientPolicy::Dense {
            return "GradientPolicy::Dense, which needs the gradients of frozen layers; use Masked"
                .to_owned();
        }
        if matches!(self.optimizer.clip_setting(), Some(Clip::Norm { over_all: true, .. })) {
            return "a clip over all elements, which needs the gradients of frozen layers; use Clip::norm"
                .to_owned();
        }
        for layer in self.model.layers() {
            let is_trainable = |index: &usize| trained(index) && trainable(*index) > 0;
            if let Some(index) = layer.parameters().find(is_trainable) {
                let path = &self.model.parameters()[index].path;
                return format!("{} trainable elements in {path}; freeze all of them", trainable(index));
            }
            if !layer.layer().is_fixed() {
                return format!(
                    "layer {:?} below any frozen parameter, whose output differs from step to step",
                    layer.name()
                );
            }
        }
        "no layer with parameters".to_owned()
    }

    /// Computes the outputs (features) of the frozen layers ([`Trainer::frozen_prefix`]) for a data set.
    /// Returns them in host memory with the labels or targets, for [`Trainer::step_above`]. Features of an
    /// earlier call with fewer frozen layers become invalid. Waits for the device.
    ///
    /// ```
    /// use frazil::{Digits, FreezeRule, Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
    ///
    /// let gpu = Gpu::new(GpuOptions::default())?;
    /// let model = Model::digits()?;
    /// let mut trainer =
    ///     Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, Sgd::new(0.05), TrainerOptions::batch(64))?;
    /// trainer.freeze("conv*", FreezeRule::all())?;
    /// let features = trainer.prefix_features(&Digits::train()?)?;
    /// for epoch in 0..2 {
    ///     for batch in features.batches_for_epoch(64, 7, epoch)? {
    ///         trainer.step_above(&batch)?;
    ///     }
    /// }
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there are no such frozen layers; [`Error::ShapeMismatch`] for examples
    /// of another shape; [`Error::LimitExceeded`], [`Error::OutOfMemory`], [`Error::DeviceLost`],
    /// [`Error::Timeout`].
    pub fn prefix_features(&mut self, data: &Dataset) -> Result<Dataset> {
        let batches = data.in_order(self.options.batch)?.map(Ok);
        self.prefix_features_of(data, batches)
    }

    /// Computes the outputs of the frozen layers for examples that are read batch by batch, as in epoch 0, as
    /// [`Trainer::prefix_features`]. Examples that are left out have no features.
    ///
    /// # Errors
    /// As [`Trainer::prefix_features`], and those of [`Examples::read`]; [`Error::Data`] if all examples are left out.
    pub fn prefix_features_over(&mut self, data: &Loader) -> Result<Dataset> {
        let batches = data.in_order(self.options.batch)?;
        self.prefix_features_of(data.examples(), batches)
    }

    fn prefix_features_of(
        &mut self,
        data: &dyn Examples,
        batches: impl Iterator<Item = Result<Batch>>,
    ) -> Result<Dataset> {
        let at = "Trainer::prefix_features";
        let layers = self.frozen_prefix();
        if layers == 0 {
            let expected = "fully frozen lowest layers, and trainable ones above";
            return Err(Error::argument(at, expected, self.why_no_prefix()));
        }
        if data.example_shape() != self.model.example_shape() {
            let expected = format!("examples of {:?}", self.model.example_shape());
            return Err(Error::shape(data.name(), expected, format!("{:?}", data.example_shape())));
        }
        let below = self.model.below(layers)?;
        let (example, parameters) = (self.model.shape(below.value).unwrap_or(&[]).to_vec(), below.parameters);
        let below = self.model.features_graph(layers, self.options.batch)?;
        let plan = Plan::compile_with(&self.gpu, &below.graph, &self.store, &self.options.plan())?;
        let row: usize = example.iter().product();
        let mut features = host_memory::reserve(data.len().saturating_mul(row), data.name())?;
        let (mut labels, mut targets) = (Vec::new(), Vec::new());
        for batch in batches {
            let batch = batch?;
            if batch.rows() == 0 {
                continue;
            }
            labels.extend_from_slice(&batch.labels);
            targets.extend_from_slice(&batch.targets);
            plan.write_f32(below.input, &batch.features)?;
            plan.run(StepScalars::forward(batch.rows()))?;
            features.extend_from_slice(&plan.read_f32(below.features)?[..batch.rows() * row]);
        }
        let features = match data.target_shape() {
            Some(target) => Dataset::regression(data.name(), example.as_slice(), features, target, targets)?,
            None => Dataset::new(data.name(), example.as_slice(), features, labels, data.classes())?,
        };
        if self.frozen_prefix.as_ref().is_none_or(|prefix| prefix.layers != layers) {
            let updates = Updates::new(&self.model, &self.optimizer, self.options.accumulate)?;
            let values =
                self.model.training_graph_from(layers, self.options.batch, self.loss.clone(), updates)?;
            let plan = self.training.plan.compile_beside(&values.graph)?;
            let training = ModelPlan::with_constants(plan, values)?;
            self.frozen_prefix = Some(FrozenPrefix { layers, parameters, example, training });
        }
        Ok(features)
    }

    /// Trains one step on a batch of [`Trainer::prefix_features`]. The result has the same bits as that of
    /// [`Trainer::step`], without computing the frozen layers.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::InvalidArgument`] if the layers were thawed or their weights set since
    /// the last call of [`Trainer::prefix_features`]. Batches of earlier calls are not detected and must not
    /// be used.
    pub fn step_above(&mut self, batch: &Batch) -> Result<()> {
        self.step_above_over(std::slice::from_ref(batch))
    }

    /// Trains one step on several batches of [`Trainer::prefix_features`], as [`Trainer::step_over`].
    ///
    /// # Errors
    /// As [`Trainer::step_over`] and [`Trainer::step_above`].
    pub fn step_above_over(&mut self, batches: &[Batch]) -> Result<()> {
        self.validate_above(batches)?;
        self.update_over(&self.counted(batches), true)
    }

    /// Profiles one step on a batch of [`Trainer::prefix_features`], as [`Trainer::profile_step`].
    ///
    /// # Errors
    /// As [`Trainer::step_above`] and [`Plan::profile`].
    pub fn profile_step_above(&mut self, batch: &Batch) -> Result<Vec<TimedDispatch>> {
        self.validate_above(std::slice::from_ref(batch))?;
        self.profile(batch, true)
    }

    /// Returns the buffers and dispatches of a step on cached features; `None` if no cached features are
    /// valid.
    pub fn report_above(&self) -> Option<&PlanReport> {
        self.frozen_prefix.as_ref().map(|prefix| prefix.training.plan.report())
    }

    fn validate_above(&self, batches: &[Batch]) -> Result<()> {
        let at = "Trainer::step_above";
        let Some(prefix) = &self.frozen_prefix else {
            let expected =
                "valid features: call Trainer::prefix_features after the last change of frozen layers";
            return Err(Error::argument(at, expected, "none"));
        };
        self.check_finite()?;
        self.validate_batches(at, batches, &prefix.example)
    }

    /// Recompiles the step on cached features for changed masks, or discards it if the features are no longer
    /// valid.
    pub(super) fn recompile_prefix(&mut self) {
        let layers = self.frozen_prefix();
        let Some(prefix) = self.frozen_prefix.take().filter(|prefix| prefix.layers <= layers) else {
            return;
        };
        match prefix.training.recompile(&self.store, &self.masks) {
            Ok(None) => self.frozen_prefix = Some(prefix),
            Ok(Some(training)) => self.frozen_prefix = Some(FrozenPrefix { training, ..prefix }),
            Err(error) => log::warn!("cached features are discarded: {error}"),
        }
    }

    /// Discards the step on cached features if the features depend on this parameter, whose weights are about
    /// to change.
    pub(super) fn invalidate_prefix_of(&mut self, id: ParameterId) {
        self.frozen_prefix = self.frozen_prefix.take().filter(|prefix| id.index() >= prefix.parameters);
    }
}
