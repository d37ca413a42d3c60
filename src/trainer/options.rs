//! The options of a trainer.

use crate::compiler::{PlanOptions, Winograd};
use crate::kernels::GemmFamily;

/// Handling of a loss or an update that is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnNonFinite {
    /// Keeps all weights and state finite, and reports an error when metrics are next read. If the loss of a
    /// step is not finite, its update and all later ones are skipped ([`crate::Error::NonFiniteLoss`]). If the
    /// loss is finite but its update is not, as after an overflow, the elements with such a result keep their
    /// weight and state, and all updates after that step are skipped ([`crate::Error::NonFiniteUpdate`]).
    #[default]
    Stop,
    /// Continues with updates, and stores results that are not finite. Frozen elements keep their bits even
    /// then.
    Continue,
}

/// Gradient that [`crate::Trainer::gradient`] returns for frozen elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GradientPolicy {
    /// Exactly 0.
    #[default]
    Masked,
    /// The gradient that the element would have if it were trainable, for methods that score or thaw frozen
    /// weights.
    Dense,
}

/// Handling of the optimizer state of thawed elements, and of the steps that Adam's bias correction counts
/// for them ([`crate::BiasCorrection::ElementSteps`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThawPolicy {
    /// Keeps the state that the element had when it was frozen, and continues its count.
    KeepState,
    /// Sets the state and the count to 0.
    ZeroState,
}

/// The options of a trainer, built from [`TrainerOptions::batch`].
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerOptions {
    pub(super) batch: usize,
    pub(super) seed: u64,
    pub(super) keep_gradients: bool,
    pub(super) gradient_policy: GradientPolicy,
    pub(super) on_non_finite: OnNonFinite,
    pub(super) progress_every: u64,
    pub(super) family: Option<GemmFamily>,
    pub(super) winograd: Winograd,
    pub(super) accumulate: bool,
}

impl TrainerOptions {
    /// Options for batches of up to this many examples: seed 0, gradients not kept, training stops at a
    /// non-finite loss.
    pub fn batch(batch: usize) -> Self {
        TrainerOptions {
            batch,
            seed: 0,
            keep_gradients: false,
            gradient_policy: GradientPolicy::Masked,
            on_non_finite: OnNonFinite::Stop,
            progress_every: 8,
            family: None,
            winograd: Winograd::Auto,
            accumulate: false,
        }
    }

    /// Sets the seed of initial weights and of random layers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Keeps gradients for [`crate::Trainer::gradient`].
    pub fn keep_gradients(mut self, keep: bool) -> Self {
        self.keep_gradients = keep;
        self
    }

    /// Sets what [`crate::Trainer::gradient`] returns for frozen elements.
    pub fn gradient_policy(mut self, policy: GradientPolicy) -> Self {
        self.gradient_policy = policy;
        self
    }

    /// Sets how to handle a loss that is NaN or infinite.
    pub fn on_non_finite(mut self, policy: OnNonFinite) -> Self {
        self.on_non_finite = policy;
        self
    }

    /// Sets the number of steps between two reads of the running metrics for [`crate::Trainer::progress`]; 0
    /// disables them.
    pub fn progress_every(mut self, steps: u64) -> Self {
        self.progress_every = steps;
        self
    }

    /// Allows several batches in [`crate::Trainer::step_over`] (gradient accumulation). Takes the memory of
    /// another copy of all gradients.
    pub fn accumulate(mut self, accumulate: bool) -> Self {
        self.accumulate = accumulate;
        self
    }

    pub(super) fn plan(&self) -> PlanOptions {
        let plan = PlanOptions::default().winograd(self.winograd);
        match self.family {
            Some(family) => plan.family(family),
            None => plan,
        }
    }

    /// Sets when convolutions use Winograd's minimal filtering, instead of where it is measured to be faster.
    pub fn winograd(mut self, when: Winograd) -> Self {
        self.winograd = when;
        self
    }

    /// Sets the GEMM family, instead of the one chosen for the adapter.
    pub fn family(mut self, family: GemmFamily) -> Self {
        self.family = Some(family);
        self
    }
}
