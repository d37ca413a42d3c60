//! How to train.

use crate::kernels::GemmFamily;
use crate::plan::PlanOptions;

/// What to do when a loss is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnNonFinite {
    /// Skip that update and all later ones, so that the last good weights survive, and report
    /// [`crate::Error::NonFiniteLoss`] at the next read of metrics.
    #[default]
    Stop,
    /// Go on. Frozen elements keep their bits all the same.
    Continue,
}

/// What [`crate::Trainer::gradient`] reads at frozen places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GradientPolicy {
    /// Exactly 0.
    #[default]
    Masked,
    /// The gradient that the element would have: for methods that grow or score frozen weights.
    Dense,
}

/// What happens to the optimizer state of thawed elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThawPolicy {
    /// It goes on as it was when the element was frozen.
    KeepState,
    /// It begins at 0.
    ZeroState,
}

/// How to train. Begin with [`TrainerOptions::batch`].
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerOptions {
    pub(super) batch: usize,
    pub(super) seed: u64,
    pub(super) keep_gradients: bool,
    pub(super) gradient_policy: GradientPolicy,
    pub(super) on_non_finite: OnNonFinite,
    pub(super) progress_every: u64,
    pub(super) family: Option<GemmFamily>,
    pub(super) accumulate: bool,
}

impl TrainerOptions {
    /// Batches of up to so many examples; seed 0, gradients not kept, stops at a non-finite loss.
    pub fn batch(batch: usize) -> Self {
        TrainerOptions {
            batch,
            seed: 0,
            keep_gradients: false,
            gradient_policy: GradientPolicy::Masked,
            on_non_finite: OnNonFinite::Stop,
            progress_every: 8,
            family: None,
            accumulate: false,
        }
    }

    /// The seed of the initial weights.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether [`crate::Trainer::gradient`] can be read.
    pub fn keep_gradients(mut self, keep: bool) -> Self {
        self.keep_gradients = keep;
        self
    }

    /// What gradients read at frozen places.
    pub fn gradient_policy(mut self, policy: GradientPolicy) -> Self {
        self.gradient_policy = policy;
        self
    }

    /// What to do when a loss is NaN or infinite.
    pub fn on_non_finite(mut self, policy: OnNonFinite) -> Self {
        self.on_non_finite = policy;
        self
    }

    /// Steps between two looks at the running metrics for [`crate::Trainer::progress`]; 0 for none.
    pub fn progress_every(mut self, steps: u64) -> Self {
        self.progress_every = steps;
        self
    }

    /// Whether [`crate::Trainer::step_over`] may take several batches; costs one more copy of all gradients.
    pub fn accumulate(mut self, accumulate: bool) -> Self {
        self.accumulate = accumulate;
        self
    }

    pub(super) fn plan(&self) -> PlanOptions {
        let plan = PlanOptions::default();
        match self.family {
            Some(family) => plan.family(family),
            None => plan,
        }
    }

    /// Multiplies matrices in this family, rather than in the one chosen for the adapter.
    pub fn family(mut self, family: GemmFamily) -> Self {
        self.family = Some(family);
        self
    }
}
