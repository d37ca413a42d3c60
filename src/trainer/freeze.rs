//! Freezing and thawing.

use super::proof::Baseline;
use super::{GradientPolicy, ThawPolicy, Trainer};
use crate::error::{Error, Result};
use crate::graph::ParameterId;
use crate::mask::{FreezeRule, Mask, TensorView};

/// A mask about to come into force, with everything that had to be read for it: from here on only writes can fail.
pub(super) struct Change {
    pub id: ParameterId,
    pub mask: Mask,
    pub baseline: Baseline,
    pub weights: Option<Vec<u32>>,
    /// Slots with new values: those whose thawed elements begin at 0, or all of a file.
    pub state: Vec<(usize, Vec<u32>)>,
}

impl Trainer {
    /// Freezes the elements that `rule` selects in every parameter that `glob` matches, at the values that they have
    /// now. What is frozen already stays frozen. Gives the number of elements newly frozen.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::InvalidArgument`], [`Error::MaskMismatch`]: nothing was frozen then.
    pub fn freeze(&mut self, glob: &str, rule: FreezeRule) -> Result<usize> {
        let before = self.frozen_count();
        let union = |old: &Mask, selected: &Mask| old.union(selected);
        self.change_all(glob, &rule, ThawPolicy::KeepState, union)?;
        Ok(self.frozen_count() - before)
    }

    /// Writes `values` into the elements that `mask` marks (frozen ones too) and freezes them there. The other elements
    /// of `values` are not used. `values` may hold any bits: NaN payloads, -0.0 and subnormals are kept.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::ShapeMismatch`], [`Error::MaskMismatch`]: nothing was changed then.
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
        // Elements frozen before are forgotten first, so that their new values are the ones that are proved.
        let mut baseline = self.baselines[id.index()].clone();
        baseline.keep_only(&old.difference(mask)?);
        let baseline = baseline.with(mask, &weights, &self.read_state(id)?);
        self.apply(vec![Change { id, mask: union, baseline, weights: Some(weights), state: Vec::new() }])
    }

    /// Thaws the elements that `rule` selects in every parameter that `glob` matches; `policy` says what becomes of
    /// their optimizer state. Gives the number of elements thawed.
    ///
    /// # Errors
    /// As [`Trainer::freeze`].
    pub fn thaw(&mut self, glob: &str, rule: FreezeRule, policy: ThawPolicy) -> Result<usize> {
        let before = self.frozen_count();
        self.change_all(glob, &rule, policy, |old, selected| old.difference(selected))?;
        Ok(before - self.frozen_count())
    }

    /// Freezes exactly the elements of `mask`: those not in it are thawed under `policy`.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::MaskMismatch`].
    pub fn replace_mask(&mut self, path: &str, mask: Mask, policy: ThawPolicy) -> Result<()> {
        let id = self.find(path)?;
        let change = self.prepare(id, mask, policy).map_err(|error| named(error, path))?;
        self.apply(vec![change])
    }

    /// Frozen elements of all parameters.
    pub fn frozen_count(&self) -> usize {
        self.masks.iter().map(Mask::frozen_count).sum()
    }

    /// Combines each matching parameter's mask with what the rule selects; all is prepared before anything is changed.
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
        let changes = masks.into_iter().map(|(id, mask)| self.prepare(id, mask, policy));
        let changes = changes.collect::<Result<Vec<_>>>()?;
        self.apply(changes)
    }

    /// What a rule selects in each parameter that a glob matches; weights are read only for rules that look at them.
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

    /// Reads what a new mask needs.
    fn prepare(&self, id: ParameterId, mask: Mask, policy: ThawPolicy) -> Result<Change> {
        let old = &self.masks[id.index()];
        let thawed = old.difference(&mask)?;
        let fresh = mask.difference(old)?;
        let mut state = Vec::new();
        if policy == ThawPolicy::ZeroState && thawed.frozen_count() > 0 {
            for (slot, mut bits) in self.read_state(id)?.into_iter().enumerate() {
                thawed.frozen_indices().for_each(|index| bits[index] = 0);
                state.push((slot, bits));
            }
        }
        let mut baseline = self.baselines[id.index()].clone();
        baseline.keep_only(&mask);
        if fresh.frozen_count() > 0 {
            baseline = baseline.with(&fresh, &self.store.read_weights(id)?, &self.read_state(id)?);
        }
        Ok(Change { id, mask, baseline, weights: None, state })
    }

    pub(super) fn read_state(&self, id: ParameterId) -> Result<Vec<Vec<u32>>> {
        (0..self.store.slots().len()).map(|slot| self.store.read_state(slot, id)).collect()
    }

    /// Puts masks into force. Writes fail only when the device is gone; a plan that does not fit is tried again by the next
    /// step.
    pub(super) fn apply(&mut self, changes: Vec<Change>) -> Result<()> {
        self.outdated = true;
        for Change { id, mask, baseline, weights, state } in changes {
            if weights.is_some() || mask.frozen_count() < mask.len() {
                self.forget_prefix_of(id);
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
        }
        self.follow_masks()
    }

    /// Compiles the step again if the masks changed what has to be computed.
    pub(super) fn follow_masks(&mut self) -> Result<()> {
        if self.outdated && self.options.gradient_policy == GradientPolicy::Masked {
            self.training.follow(&self.masks)?;
            self.follow_prefix();
        }
        self.outdated = false;
        Ok(())
    }
}

/// Names the parameter in an error of mask algebra.
fn named(error: Error, path: &str) -> Error {
    match error {
        Error::MaskMismatch { expected, got, .. } => {
            Error::MaskMismatch { path: path.to_owned(), expected, got }
        }
        other => other,
    }
}

impl Baseline {
    /// Adds elements at the bits that they have now.
    pub(super) fn with(self, fresh: &Mask, weights: &[u32], state: &[Vec<u32>]) -> Self {
        let mut columns = self.columns;
        columns.resize(1 + state.len(), Vec::new());
        let mut indices = self.indices;
        indices.extend(fresh.frozen_indices());
        for (column, source) in
            columns.iter_mut().zip(std::iter::once(weights).chain(state.iter().map(Vec::as_slice)))
        {
            column.extend(fresh.frozen_indices().map(|index| source[index]));
        }
        let mut order: Vec<usize> = (0..indices.len()).collect();
        order.sort_by_key(|&i| indices[i]);
        Baseline {
            indices: order.iter().map(|&i| indices[i]).collect(),
            columns: columns.iter().map(|column| order.iter().map(|&i| column[i]).collect()).collect(),
        }
    }

    /// Forgets all elements but those of a mask.
    fn keep_only(&mut self, mask: &Mask) {
        let kept: Vec<usize> = (0..self.indices.len()).filter(|&i| mask.is_frozen(self.indices[i])).collect();
        for column in &mut self.columns {
            *column = kept.iter().map(|&i| column[i]).collect();
        }
        self.indices = kept.iter().map(|&i| self.indices[i]).collect();
    }
}
