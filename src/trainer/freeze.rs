//! Freezing and thawing.

use super::proof::Baseline;
use super::{ThawPolicy, Trainer};
use crate::error::{Error, Result};
use crate::graph::ParameterId;
use crate::mask::{FreezeRule, Mask};

impl Trainer {
    /// Freezes the elements that `rule` selects in every parameter that `glob` matches, at the values that they have
    /// now. What is frozen already stays frozen. Gives the number of elements newly frozen.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::InvalidArgument`], [`Error::MaskMismatch`]: nothing was frozen then.
    pub fn freeze(&mut self, glob: &str, rule: FreezeRule) -> Result<usize> {
        let mut changes = Vec::new();
        for (id, selected) in self.resolve(glob, &rule)? {
            changes.push((id, self.masks[id.index()].union(&selected)?));
        }
        let before = self.frozen_count();
        for (id, mask) in changes {
            self.change_mask(id, mask, ThawPolicy::KeepState)?;
        }
        Ok(self.frozen_count() - before)
    }

    /// Writes `values` into the elements that `mask` marks (frozen ones too) and freezes them there. The other elements
    /// of `values` are not used. `values` may hold any bits: NaN payloads, -0.0 and subnormals are kept.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::ShapeMismatch`], [`Error::MaskMismatch`]: nothing was changed then.
    pub fn set_and_freeze(&mut self, path: &str, values: &[f32], mask: &Mask) -> Result<()> {
        let id = self.find(path)?;
        let union = self.masks[id.index()].union(mask).map_err(|error| named(error, path))?;
        let mut bits = self.store.read_weights(id)?;
        if values.len() != bits.len() {
            return Err(Error::shape(path, format!("{} elements", bits.len()), values.len()));
        }
        for index in mask.frozen_indices() {
            bits[index] = values[index].to_bits();
        }
        self.store.write_weights(id, &bits)?;
        // Elements frozen before are forgotten first, so that their new values are the ones that are proved.
        let others = self.masks[id.index()].difference(mask)?;
        self.baselines[id.index()].keep_only(&others);
        self.masks[id.index()] = others;
        self.change_mask(id, union, ThawPolicy::KeepState)
    }

    /// Thaws the elements that `rule` selects in every parameter that `glob` matches; `policy` says what becomes of
    /// their optimizer state. Gives the number of elements thawed.
    ///
    /// # Errors
    /// As [`Trainer::freeze`].
    pub fn thaw(&mut self, glob: &str, rule: FreezeRule, policy: ThawPolicy) -> Result<usize> {
        let mut changes = Vec::new();
        for (id, selected) in self.resolve(glob, &rule)? {
            changes.push((id, self.masks[id.index()].difference(&selected)?));
        }
        let before = self.frozen_count();
        for (id, mask) in changes {
            self.change_mask(id, mask, policy)?;
        }
        Ok(before - self.frozen_count())
    }

    /// Freezes exactly the elements of `mask`: those not in it are thawed under `policy`.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::MaskMismatch`].
    pub fn replace_mask(&mut self, path: &str, mask: Mask, policy: ThawPolicy) -> Result<()> {
        let id = self.find(path)?;
        self.masks[id.index()].union(&mask).map_err(|error| named(error, path))?;
        self.change_mask(id, mask, policy)
    }

    /// Frozen elements of all parameters.
    pub fn frozen_count(&self) -> usize {
        self.masks.iter().map(Mask::frozen_count).sum()
    }

    fn resolve(&self, glob: &str, rule: &FreezeRule) -> Result<Vec<(ParameterId, Mask)>> {
        let resolve = |id: ParameterId| {
            let parameter = &self.model.parameters()[id.index()];
            Ok((id, rule.resolve(&parameter.path, parameter.shape.elements())?))
        };
        self.matching(glob)?.into_iter().map(resolve).collect()
    }

    /// Puts a mask of the right length into force.
    fn change_mask(&mut self, id: ParameterId, mask: Mask, policy: ThawPolicy) -> Result<()> {
        let old = &self.masks[id.index()];
        let thawed = old.difference(&mask)?;
        let fresh = mask.difference(old)?;
        if policy == ThawPolicy::ZeroState && thawed.frozen_count() > 0 {
            for slot in 0..self.store.slots().len() {
                let mut state = self.store.read_state(slot, id)?;
                thawed.frozen_indices().for_each(|index| state[index] = 0);
                self.store.write_state(slot, id, &state)?;
            }
        }
        let mut baseline = self.baselines[id.index()].clone();
        baseline.keep_only(&mask);
        if fresh.frozen_count() > 0 {
            let slots = 0..self.store.slots().len();
            let state = slots.map(|slot| self.store.read_state(slot, id)).collect::<Result<Vec<_>>>()?;
            baseline = baseline.with(&fresh, &self.store.read_weights(id)?, &state);
        }
        self.store.write_mask(id, &mask)?;
        self.baselines[id.index()] = baseline;
        self.masks[id.index()] = mask;
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
    fn with(self, fresh: &Mask, weights: &[u32], state: &[Vec<u32>]) -> Self {
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
