//! The steps in which each element was trained, which Adam's bias correction counts.

use super::{GradientPolicy, ModelPlan, Trainer, report};
use crate::engine::Store;
use crate::error::Result;
use crate::graph::{ParameterId, ParameterKind};
use crate::mask::Mask;
use crate::optimizer::BiasCorrection;

/// For each element of a parameter: if it is trainable, the number of steps that it missed; if it is
/// frozen, the number of steps in which it was trained. Neither changes from step to step. All numbers are
/// modulo 2^32.
///
/// Empty if nothing is frozen and no element missed a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ElementSteps(Vec<u32>);

impl ElementSteps {
    /// Creates the steps of elements that were trained in `trained` of the trainer's `step` steps.
    pub fn new(trained: Vec<u32>, mask: &Mask, step: u64) -> Self {
        let mut steps = trained;
        for (index, steps) in steps.iter_mut().enumerate() {
            if !mask.is_frozen(index) {
                *steps = (step as u32).wrapping_sub(*steps);
            }
        }
        if mask.frozen_count() == 0 && steps.iter().all(|&missed| missed == 0) {
            return ElementSteps::default();
        }
        ElementSteps(steps)
    }

    /// Returns the number of steps in which each element was trained; empty if each one was trained in all
    /// `step` steps.
    pub fn trained(&self, mask: &Mask, step: u64) -> Vec<u32> {
        let trained = |(index, &steps): (usize, &u32)| {
            if mask.is_frozen(index) { steps } else { (step as u32).wrapping_sub(steps) }
        };
        let trained: Vec<u32> = self.0.iter().enumerate().map(trained).collect();
        if trained.iter().all(|&trained| trained == step as u32) { Vec::new() } else { trained }
    }

    /// Returns the number of steps that each element missed; 0 for frozen elements, which are not updated.
    pub fn missed(&self, mask: &Mask) -> Vec<u32> {
        let mut missed = self.0.clone();
        missed.resize(mask.len(), 0);
        mask.frozen_indices().for_each(|index| missed[index] = 0);
        missed
    }

    /// Whether a trainable element missed a step.
    pub fn any_missed(&self, mask: &Mask) -> bool {
        self.0.iter().enumerate().any(|(index, &steps)| steps != 0 && !mask.is_frozen(index))
    }
}

/// Store and plan to install before masks or missed steps are written; `None` where the present one stays.
pub(super) struct Compiled {
    store: Option<Store>,
    training: Option<ModelPlan>,
}

impl Trainer {
    /// Whether the bias correction counts the steps in which each element of this parameter was trained.
    pub(super) fn counts_steps_of(&self, id: ParameterId) -> bool {
        self.counts_element_steps() && self.model.parameters()[id.index()].kind == ParameterKind::Trained
    }

    /// Whether the bias correction counts the steps in which each element was trained.
    pub(super) fn counts_element_steps(&self) -> bool {
        self.optimizer.bias_correction() == Some(BiasCorrection::ElementSteps)
    }

    /// Returns the number of updates so far, for [`Trainer::steps_under`]. Waits for the device if steps are
    /// counted for each element, because the device may have skipped the last updates.
    pub(super) fn step_of_change(&self) -> Result<u64> {
        if self.counts_element_steps() { self.updated_steps() } else { Ok(self.step) }
    }

    /// Returns the steps of a parameter's elements from step `step` on, when its mask becomes `mask`.
    /// Elements of `restarted` count from 0.
    pub(super) fn steps_under(
        &self,
        id: ParameterId,
        mask: &Mask,
        restarted: &Mask,
        step: u64,
    ) -> ElementSteps {
        if !self.counts_steps_of(id) {
            return ElementSteps::default();
        }
        let mut trained = self.trained_steps(id, step);
        trained.resize(mask.len(), step as u32);
        restarted.frozen_indices().for_each(|index| trained[index] = 0);
        ElementSteps::new(trained, mask, step)
    }

    /// Returns the number of steps in which each element of a parameter was trained; empty if each one was
    /// trained in all `step` steps, or if steps are not counted for each element.
    pub(super) fn trained_steps(&self, id: ParameterId, step: u64) -> Vec<u32> {
        self.element_steps[id.index()].trained(&self.masks[id.index()], step)
    }

    /// Creates what training needs under new masks: an arena of missed steps when the first element that
    /// missed steps is trained, and a plan if the present one does not suit the masks or the store.
    ///
    /// # Errors
    /// Those of [`crate::low_level::Plan::compile`]; this trainer is not changed.
    pub(super) fn compile_for(&self, masks: &[Mask], missed: bool) -> Result<Compiled> {
        let needed = missed && !self.store.has_missed_steps();
        let store = if needed { Some(self.store.with_missed_steps()?) } else { None };
        let masks = match self.options.gradient_policy {
            GradientPolicy::Masked => masks,
            GradientPolicy::Dense => &[],
        };
        let training = self.training.recompile(store.as_ref().unwrap_or(&self.store), masks)?;
        Ok(Compiled { store, training })
    }

    /// Puts a new store and a new plan in place.
    pub(super) fn install(&mut self, compiled: Compiled) {
        if let Some(store) = compiled.store {
            self.store = store;
        }
        if let Some(training) = compiled.training {
            let report = report(training.plan.report(), self.evaluation().plan.report());
            self.report = report;
            self.training = training;
        }
    }

    /// Stores the steps of a parameter's elements under its present mask, and writes those that they missed.
    pub(super) fn set_element_steps(&mut self, id: ParameterId, steps: ElementSteps) -> Result<()> {
        if self.store.has_missed_steps() {
            self.store.write_missed_steps(id, &steps.missed(&self.masks[id.index()]))?;
        }
        self.element_steps[id.index()] = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_masks_and_take_no_memory_where_nothing_was_missed() {
        let mask = |frozen: [u8; 4]| Mask::from_frozen(frozen.map(|bit| bit == 1));
        let none = mask([0; 4]);
        let all = ElementSteps::new(vec![7; 4], &none, 7);
        assert_eq!(all, ElementSteps::default());
        assert!(all.trained(&none, 9).is_empty());
        // Two elements are frozen from step 7 to step 9; one of them is then thawed.
        let frozen = mask([0, 1, 1, 0]);
        let steps = ElementSteps::new(vec![7; 4], &frozen, 7);
        assert!(!steps.any_missed(&frozen));
        assert_eq!(steps.trained(&frozen, 9), [9, 7, 7, 9]);
        let thawed = mask([0, 0, 1, 0]);
        let steps = ElementSteps::new(steps.trained(&frozen, 9), &thawed, 9);
        assert!(steps.any_missed(&thawed));
        assert_eq!(steps.missed(&thawed), [0, 2, 0, 0]);
        assert_eq!(steps.trained(&thawed, 11), [11, 9, 7, 11]);
        // After a rewind, an element may have been trained in more steps than the trainer counts.
        let steps = ElementSteps::new(vec![3, 100, 3, 3], &none, 3);
        assert_eq!(steps.trained(&none, 5), [5, 102, 5, 5]);
    }
}
