//! Freezing, thawing and pruning.

use super::element_steps::ElementSteps;
use super::proof::Baseline;
use super::{ThawPolicy, Trainer};
use crate::error::{Error, Result};
use crate::graph::{ParameterId, ParameterKind};
use crate::mask::{FreezeRule, Mask, TensorView};

/// A new mask of a parameter, with all data that is needed to apply it without further reads.
pub(super) struct MaskChange {
    pub id: ParameterId,
    pub mask: Mask,
    pub baseline: Baseline,
    pub weights: Option<Vec<u32>>,
    /// State slots to overwrite, with their new bits: after a thaw with [`ThawPolicy::ZeroState`] (thawed
    /// elements are 0), or from a checkpoint.
    pub state: Vec<(usize, Vec<u32>)>,
    pub steps: ElementSteps,
}

impl Trainer {
    /// Freezes the elements that `rule` selects in every parameter that `glob` matches, at their current
    /// values. Elements that are already frozen stay frozen. Returns the number of newly frozen elements.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::InvalidArgument`], [`Error::MaskMismatch`]: nothing was frozen.
    pub fn freeze(&mut self, glob: &str, rule: FreezeRule) -> Result<usize> {
        let before = self.frozen_count();
        let union = |old: &Mask, selected: &Mask| old.union(selected);
        self.change_all(glob, &rule, ThawPolicy::KeepState, union)?;
        Ok(self.frozen_count() - before)
    }

    /// Sets the elements that `mask` selects, including frozen ones, to the corresponding elements of
    /// `values`, and freezes them. The other elements of `values` are ignored. All bits are preserved: NaN
    /// payloads, -0.0 and subnormals.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::ShapeMismatch`], [`Error::MaskMismatch`]: nothing was changed.
    pub fn set_and_freeze(&mut self, path: &str, values: &[f32], mask: &Mask) -> Result<()> {
        let id = self.find(path)?;
        let old = &self.masks[id.index()];
        let union = old.union(mask).map_err(|error| named(error, path))?;
        let mut weights = self.store.read_weights(id)?;
        if values.len() != weights.len() {
            return Err(Error::shape(path, format!("{} elements", weights.len()), values.len()));
        }
        for index in mask.frozen_indices() {
            weights[index] = values[index].to_bits();
        }
        // Remove elements that were already frozen from the baseline, so that the proof compares with their
        // new values.
        let mut baseline = self.baselines[id.index()].clone();
        baseline.keep_only(&old.difference(mask)?);
        let baseline = baseline.with(mask, &weights, &self.read_state(id)?);
        let steps = self.steps_under(id, &union, &Mask::none_of(union.len()), self.step_of_change()?);
        let weights = Some(weights);
        self.apply(vec![MaskChange { id, mask: union, baseline, weights, state: Vec::new(), steps }])
    }

    /// Thaws the elements that `rule` selects in every parameter that `glob` matches. `policy` defines what
    /// happens to their optimizer state. Returns the number of thawed elements.
    ///
    /// # Errors
    /// As [`Trainer::freeze`].
    pub fn thaw(&mut self, glob: &str, rule: FreezeRule, policy: ThawPolicy) -> Result<usize> {
        let before = self.frozen_count();
        self.change_all(glob, &rule, policy, |old, selected| old.difference(selected))?;
        Ok(before - self.frozen_count())
    }

    /// Freezes exactly the elements of `mask`; all others are thawed under `policy`.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::MaskMismatch`].
    pub fn replace_mask(&mut self, path: &str, mask: Mask, policy: ThawPolicy) -> Result<()> {
        let id = self.find(path)?;
        let step = self.step_of_change()?;
        let change = self.prepare(id, mask, policy, step).map_err(|error| named(error, path))?;
        self.apply(vec![change])
    }

    /// Returns the number of frozen elements in all parameters.
    pub fn frozen_count(&self) -> usize {
        self.masks.iter().map(Mask::frozen_count).sum()
    }

    /// Combines the mask of each matching parameter with the selection of a rule, and applies the new masks.
    /// All reads come before the first change, so that an error leaves the trainer unchanged.
    fn change_all(
        &mut self,
        glob: &str,
        rule: &FreezeRule,
        policy: ThawPolicy,
        combine: impl Fn(&Mask, &Mask) -> Result<Mask>,
    ) -> Result<()> {
        let mut masks = Vec::new();
        for (id, selected) in self.select(glob, rule)? {
            masks.push((id, combine(&self.masks[id.index()], &selected)?));
        }
        let step = self.step_of_change()?;
        let changes = masks.into_iter().map(|(id, mask)| self.prepare(id, mask, policy, step));
        let changes = changes.collect::<Result<Vec<_>>>()?;
        self.apply(changes)
    }

    /// Returns the elements that a rule selects in each parameter that a glob matches. Weights are read only
    /// for rules that need them.
    pub(super) fn select(&self, glob: &str, rule: &FreezeRule) -> Result<Vec<(ParameterId, Mask)>> {
        let ids = self.matching(glob)?;
        let mut bits = Vec::new();
        if rule.needs_weights() {
            bits = ids.iter().map(|&id| self.store.read_weights(id)).collect::<Result<Vec<_>>>()?;
        }
        let views: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(i, id)| {
                let parameter = &self.model.parameters()[id.index()];
                TensorView {
                    path: &parameter.path,
                    shape: parameter.shape.extents(),
                    bits: bits.get(i).map(Vec::as_slice),
                    frozen: &self.masks[id.index()],
                }
            })
            .collect();
        let masks = rule.resolve_all(&views)?;
        Ok(ids.into_iter().zip(masks).collect())
    }

    /// Reads all data that is needed to apply a new mask from step `step` on.
    fn prepare(&self, id: ParameterId, mask: Mask, policy: ThawPolicy, step: u64) -> Result<MaskChange> {
        let old = &self.masks[id.index()];
        let thawed = old.difference(&mask)?;
        let fresh = mask.difference(old)?;
        let zeroed = match policy {
            ThawPolicy::KeepState => Mask::none_of(mask.len()),
            ThawPolicy::ZeroState => thawed,
        };
        let mut state = Vec::new();
        if zeroed.frozen_count() > 0 {
            for (slot, mut bits) in self.read_state(id)?.into_iter().enumerate() {
                zeroed.frozen_indices().for_each(|index| bits[index] = 0);
                state.push((slot, bits));
            }
        }
        let steps = self.steps_under(id, &mask, &zeroed, step);
        let mut baseline = self.baselines[id.index()].clone();
        baseline.keep_only(&mask);
        if fresh.frozen_count() > 0 {
            baseline = baseline.with(&fresh, &self.store.read_weights(id)?, &self.read_state(id)?);
        }
        Ok(MaskChange { id, mask, baseline, weights: None, state, steps })
    }

    pub(super) fn read_state(&self, id: ParameterId) -> Result<Vec<Vec<u32>>> {
        (0..self.store.slots().len()).map(|slot| self.store.read_state(slot, id)).collect()
    }

    /// Compiles the plan for new masks, then writes the masks, weights and state. A compilation error leaves
    /// the trainer unchanged; the writes fail only if the device is lost.
    pub(super) fn apply(&mut self, changes: Vec<MaskChange>) -> Result<()> {
        let mut masks = self.masks.clone();
        for change in &changes {
            masks[change.id.index()] = change.mask.clone();
        }
        let missed = changes.iter().any(|change| change.steps.any_missed(&change.mask));
        let compiled = self.compile_for(&masks, missed)?;
        self.install(compiled);
        self.exchanged = None;
        for MaskChange { id, mask, baseline, weights, state, steps } in changes {
            if weights.is_some() || mask.frozen_count() < mask.len() {
                self.invalidate_prefix_of(id);
            }
            if let Some(bits) = weights {
                self.store.write_weights(id, &bits)?;
            }
            for (slot, bits) in state {
                self.store.write_state(slot, id, &bits)?;
            }
            self.store.write_mask(id, &mask)?;
            self.baselines[id.index()] = baseline;
            self.masks[id.index()] = mask;
            self.set_element_steps(id, steps)?;
        }
        self.recompile_prefix();
        Ok(())
    }

    /// Sets the trainable elements that `rule` selects to 0 and freezes them. Elements that are already
    /// frozen keep their values. Returns the number of newly frozen elements.
    ///
    /// # Errors
    /// As [`Trainer::freeze`]: nothing was changed.
    pub fn prune(&mut self, glob: &str, rule: FreezeRule) -> Result<usize> {
        let before = self.frozen_count();
        let step = self.step_of_change()?;
        let mut changes = Vec::new();
        for (id, selected) in self.select(glob, &rule)? {
            let old = &self.masks[id.index()];
            let fresh = selected.difference(old)?;
            let mut weights = self.store.read_weights(id)?;
            fresh.frozen_indices().for_each(|index| weights[index] = 0);
            let state = self.read_state(id)?;
            let baseline = self.baselines[id.index()].clone().with(&fresh, &weights, &state);
            let mask = old.union(&fresh)?;
            // If all selected elements were already frozen, no weight is set to 0, so the weights need not be
            // written.
            let weights = (fresh.frozen_count() > 0).then_some(weights);
            let steps = self.steps_under(id, &mask, &Mask::none_of(mask.len()), step);
            changes.push(MaskChange { id, mask, baseline, weights, state: Vec::new(), steps });
        }
        self.apply(changes)?;
        Ok(self.frozen_count() - before)
    }

    /// Freezes the running statistics that `glob` matches by their paths (`bn1.running_*`) or by the path of
    /// their batch norm (`bn1`), at their current values;
    /// [`Trainer::verify_frozen`] checks them too. Training still normalizes with the statistics of the
    /// batch, unless the layer is set to
    /// [use the running statistics](crate::Model::use_running_statistics). [`Trainer::freeze`] does not match
    /// running statistics.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if no running statistic matches: nothing was changed.
    pub fn freeze_statistics(&mut self, glob: &str) -> Result<()> {
        self.set_statistics(glob, Mask::all)
    }

    /// Thaws the running statistics that `glob` matches: training updates them from the batches again.
    ///
    /// # Errors
    /// As [`Trainer::freeze_statistics`].
    pub fn thaw_statistics(&mut self, glob: &str) -> Result<()> {
        self.set_statistics(glob, Mask::none)
    }

    fn set_statistics(&mut self, glob: &str, mask: fn(usize) -> Result<Mask>) -> Result<()> {
        let ids = self.matching_kind(glob, ParameterKind::Statistic)?;
        let step = self.step_of_change()?;
        let changes = ids.into_iter().map(|id| {
            let elements = self.model.parameters()[id.index()].shape.elements();
            self.prepare(id, mask(elements)?, ThawPolicy::KeepState, step)
        });
        let changes = changes.collect::<Result<Vec<_>>>()?;
        self.apply(changes)
    }
}

/// Adds the path of the parameter to an error of a mask operation.
fn named(error: Error, path: &str) -> Error {
    match error {
        Error::MaskMismatch { expected, got, .. } => {
            Error::MaskMismatch { path: path.to_owned(), expected, got }
        }
        other => other,
    }
}
