//! What methods of pruning need beside freezing: zeros, snapshots, rewinding.

use super::Trainer;
use super::freeze::Change;
use crate::error::{Error, Result};
use crate::graph::ParameterId;
use crate::mask::FreezeRule;

/// Weights, optimizer state and the step of a trainer, in host memory, by their bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// A list for each parameter.
    weights: Vec<Vec<u32>>,
    /// For each parameter, a list for each slot.
    state: Vec<Vec<Vec<u32>>>,
    step: u64,
}

/// What [`Trainer::rewind`] does to the optimizer state of trainable elements. The number of steps goes with it, for
/// the bias corrections of Adam count from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewindState {
    /// State and steps go on as they are.
    Keep,
    /// As they were at the snapshot.
    Restore,
    /// From 0.
    Zero,
}

impl Trainer {
    /// Sets the trainable elements that `rule` selects to 0 and freezes them there. What is frozen already keeps its
    /// bits, 0 or not. Gives the number of elements newly frozen.
    ///
    /// # Errors
    /// As [`Trainer::freeze`]: nothing was changed then.
    pub fn prune(&mut self, glob: &str, rule: FreezeRule) -> Result<usize> {
        let before = self.frozen_count();
        let mut changes = Vec::new();
        for (id, selected) in self.select(glob, &rule)? {
            let old = &self.masks[id.index()];
            let fresh = selected.difference(old)?;
            let mut weights = self.store.read_weights(id)?;
            fresh.frozen_indices().for_each(|index| weights[index] = 0);
            let state = self.read_state(id)?;
            let baseline = self.baselines[id.index()].clone().with(&fresh, &weights, &state);
            let mask = old.union(&fresh)?;
            // What was frozen all along is not written again.
            let weights = (fresh.frozen_count() > 0).then_some(weights);
            changes.push(Change { id, mask, baseline, weights, state: Vec::new() });
        }
        self.apply(changes)?;
        Ok(self.frozen_count() - before)
    }

    /// Reads all weights and state. Waits for the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let ids = || (0..self.masks.len()).map(ParameterId::of);
        Ok(Snapshot {
            weights: ids().map(|id| self.store.read_weights(id)).collect::<Result<_>>()?,
            state: ids().map(|id| self.read_state(id)).collect::<Result<_>>()?,
            step: self.step,
        })
    }

    /// Sets the trainable elements back to a snapshot of this trainer or of one with the same model and optimizer.
    /// Frozen elements keep their bits and state, whatever the snapshot has there.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a snapshot of another model or optimizer: nothing was changed then;
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn rewind(&mut self, snapshot: &Snapshot, state: RewindState) -> Result<()> {
        let now = self.snapshot()?;
        let lengths = |s: &Snapshot| -> Vec<Vec<usize>> {
            let one = |(w, state): (&Vec<u32>, &Vec<Vec<u32>>)| {
                std::iter::once(w.len()).chain(state.iter().map(Vec::len)).collect()
            };
            s.weights.iter().zip(&s.state).map(one).collect()
        };
        if lengths(&now) != lengths(snapshot) {
            let expected = format!("weights and state of {:?} elements", lengths(&now));
            return Err(Error::shape("Trainer::rewind", expected, format!("{:?}", lengths(snapshot))));
        }
        for (index, mask) in self.masks.iter().enumerate() {
            let id = ParameterId::of(index);
            let trainable = mask.complement();
            let mut weights = now.weights[index].clone();
            trainable.frozen_indices().for_each(|i| weights[i] = snapshot.weights[index][i]);
            self.store.write_weights(id, &weights)?;
            if state == RewindState::Keep {
                continue;
            }
            for (slot, mut bits) in now.state[index].iter().cloned().enumerate() {
                for i in trainable.frozen_indices() {
                    let old = snapshot.state[index][slot][i];
                    bits[i] = if state == RewindState::Restore { old } else { 0 };
                }
                self.store.write_state(slot, id, &bits)?;
            }
        }
        match state {
            RewindState::Keep => {}
            RewindState::Restore => self.step = snapshot.step,
            RewindState::Zero => self.step = 0,
        }
        Ok(())
    }
}
