//! Steps that begin above the frozen layers, whose results are computed once.

use super::{GradientPolicy, Trainer, Wired};
use crate::data::{Batch, Dataset};
use crate::error::{Error, Result};
use crate::graph::{Clip, ParameterId, StepScalars};
use crate::mask::Mask;
use crate::model::Updates;
use crate::plan::{Plan, PlanReport, TimedDispatch};

/// A step on what the lowest layers give.
pub(super) struct Prefix {
    /// Layers below it, and their parameters.
    layers: usize,
    parameters: usize,
    /// The shape of one example of it.
    example: Vec<usize>,
    pub wired: Wired,
}

impl Trainer {
    /// How many of the lowest layers always make the same of an example: all their parameters are frozen whole, none of them draws
    /// (dropout) or looks at the whole batch (batch norm, in training), and no gradient of theirs is asked for. 0 if nothing is
    /// trained.
    pub fn frozen_prefix(&self) -> usize {
        let over_all = matches!(self.optimizer.clip_setting(), Some(Clip::Norm { over_all: true, .. }));
        if over_all || self.options.gradient_policy == GradientPolicy::Dense {
            return 0;
        }
        let whole = |mask: &Mask| mask.frozen_count() == mask.len();
        let layers = self.model.layers();
        let fixed = layers.iter().take_while(|(_, layer)| layer.is_fixed()).count();
        // The model was built, so its layers have shapes.
        let held = |end: &usize| {
            self.model.below(*end).is_ok_and(|(_, parameters)| self.masks[..parameters].iter().all(whole))
        };
        let all = self.masks.iter().all(whole);
        let frozen = (1..=fixed).take_while(held).last().unwrap_or(0);
        // Layers without parameters alone are not worth it.
        let parameters = self.model.below(frozen).map_or(0, |(_, parameters)| parameters);
        if all || parameters == 0 { 0 } else { frozen }
    }

    /// What the frozen layers ([`Trainer::frozen_prefix`]) make of a whole data set, with its labels or targets: examples
    /// for [`Trainer::step_above`], in host memory; those of an earlier call, when fewer layers were frozen, are for it no
    /// longer. Waits for the device.
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
    /// [`Error::InvalidArgument`] if there are no such layers; [`Error::ShapeMismatch`] for other examples than the
    /// model's; [`Error::LimitExceeded`], [`Error::OutOfMemory`], [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn prefix_features(&mut self, data: &Dataset) -> Result<Dataset> {
        let at = "Trainer::prefix_features";
        let layers = self.frozen_prefix();
        if layers == 0 {
            let expected = "lowest layers frozen whole, and others that train";
            return Err(Error::argument(at, expected, "none that always give the same"));
        }
        if data.example_shape() != self.model.example_shape() {
            let expected = format!("examples of {:?}", self.model.example_shape());
            return Err(Error::shape(data.name(), expected, format!("{:?}", data.example_shape())));
        }
        let (example, parameters) = self.model.below(layers)?;
        let below = self.model.features_graph(layers, self.options.batch)?;
        let plan = Plan::compile_with(&self.gpu, &below.graph, &self.store, &self.options.plan())?;
        let row: usize = example.iter().product();
        let mut features = Vec::with_capacity(data.len() * row);
        for batch in data.in_order(self.options.batch)? {
            plan.write_f32(below.input, &batch.features)?;
            plan.run(StepScalars::forward(batch.rows()))?;
            features.extend_from_slice(&plan.read_f32(below.features)?[..batch.rows() * row]);
        }
        let features = data.with_features(example.as_slice(), features)?;
        if self.prefix.as_ref().is_none_or(|prefix| prefix.layers != layers) {
            let updates = Updates::new(&self.model, &self.optimizer, self.options.accumulate)?;
            let values =
                self.model.training_graph_from(layers, self.options.batch, self.loss.clone(), updates)?;
            let wired = Wired { plan: self.training.plan.beside(&values.graph)?, values };
            wired.write_constants(&wired.plan)?;
            self.prefix = Some(Prefix { layers, parameters, example, wired });
        }
        Ok(features)
    }

    /// [`Trainer::step`] on a batch of [`Trainer::prefix_features`]: the same bits, without the work of the frozen layers.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::InvalidArgument`] if the layers were thawed or their weights set since the last call of
    /// [`Trainer::prefix_features`]. Which call a batch comes from is not known: those of earlier ones must not be used.
    pub fn step_above(&mut self, batch: &Batch) -> Result<()> {
        self.step_above_over(std::slice::from_ref(batch))
    }

    /// [`Trainer::step_over`] on batches of [`Trainer::prefix_features`].
    ///
    /// # Errors
    /// As [`Trainer::step_over`] and [`Trainer::step_above`].
    pub fn step_above_over(&mut self, batches: &[Batch]) -> Result<()> {
        self.admit_above(batches)?;
        self.update_over(batches, true)
    }

    /// [`Trainer::profile_step`] on a batch of [`Trainer::prefix_features`].
    ///
    /// # Errors
    /// As [`Trainer::step_above`] and [`Plan::profile`].
    pub fn profile_step_above(&mut self, batch: &Batch) -> Result<Vec<TimedDispatch>> {
        self.admit_above(std::slice::from_ref(batch))?;
        self.profile(batch, true)
    }

    /// Buffers, bytes and dispatches of a step above the frozen layers, if features for one were made and hold.
    pub fn report_above(&self) -> Option<&PlanReport> {
        self.prefix.as_ref().map(|prefix| prefix.wired.plan.report())
    }

    fn admit_above(&mut self, batches: &[Batch]) -> Result<()> {
        let at = "Trainer::step_above";
        self.follow_masks()?;
        let Some(prefix) = &self.prefix else {
            let expected =
                "features that hold: Trainer::prefix_features after the last change of frozen layers";
            return Err(Error::argument(at, expected, "none"));
        };
        self.admit(at, batches, &prefix.example)
    }

    /// Follows masks that changed, or gives up what no longer holds: the next step above says so.
    pub(super) fn follow_prefix(&mut self) {
        let Some(mut prefix) = self.prefix.take().filter(|prefix| prefix.layers <= self.frozen_prefix())
        else {
            return;
        };
        match prefix.wired.follow(&self.masks) {
            Ok(()) => self.prefix = Some(prefix),
            Err(error) => log::warn!("features of frozen layers are given up: {error}"),
        }
    }

    /// Gives up features that other weights made or may make.
    pub(super) fn forget_prefix_of(&mut self, id: ParameterId) {
        self.prefix = self.prefix.take().filter(|prefix| id.index() >= prefix.parameters);
    }
}
