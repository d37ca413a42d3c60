//! The proof that frozen elements did not change, and digests of all elements.

use super::Trainer;
use crate::digest::{Digest, Fnv1a};
use crate::engine::{Arena, Elements};
use crate::error::Result;
use crate::graph::{Op, ParameterId, ParameterKind};
use crate::mask::Mask;
use std::fmt;

/// Host copy of the bits of one parameter's frozen elements, from the time when they were frozen. Training
/// never reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    /// The indices of the frozen elements, ascending.
    pub indices: Vec<usize>,
    /// Bits of these elements: one vector for the weights, then one per state slot.
    pub columns: Vec<Vec<u32>>,
}

/// The first frozen element that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Path of the parameter.
    pub path: String,
    /// `weight`, the name of a state tensor, or `mask` if the mask on the device differs.
    pub what: String,
    /// The index of the element, row-major.
    pub index: usize,
    /// Index of the element along each axis.
    pub coordinates: Vec<usize>,
    /// Bits of the element when it was frozen.
    pub expected: u32,
    /// Current bits of the element.
    pub got: u32,
}

/// Result of the proof for one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorProof {
    /// Path of the parameter.
    pub path: String,
    /// The number of elements of the parameter.
    pub elements: usize,
    /// The number of frozen elements.
    pub frozen: usize,
    /// The number of frozen elements whose weight or state has changed since they were frozen.
    pub changed: usize,
    /// The digest of (index, bits) of the frozen weights, computed on the device.
    pub digest: u64,
}

/// The result of [`Trainer::verify_frozen`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeReport {
    /// One entry per parameter.
    pub tensors: Vec<TensorProof>,
    /// The first frozen element that changed, if any.
    pub first_changed: Option<Changed>,
    /// The digest of the frozen elements of all weights and state tensors.
    pub digest: u64,
    /// Paths of the running statistics that training updates although all weights of their layer are frozen;
    /// [`Trainer::freeze_statistics`] freezes them.
    pub moving_statistics: Vec<String>,
}

impl FreezeReport {
    /// Returns the number of frozen elements in all parameters.
    pub fn frozen(&self) -> usize {
        self.tensors.iter().map(|t| t.frozen).sum()
    }

    /// Returns the number of frozen elements that changed.
    pub fn changed(&self) -> usize {
        self.tensors.iter().map(|t| t.changed).sum()
    }
}

impl Trainer {
    /// Compares the weight and state of every frozen element with its bits when it was frozen: by digests
    /// computed on the device, and element by element where a digest differs. Waits for the device.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Timeout`]. Changed elements are in the report and are
    /// not an error.
    pub fn verify_frozen(&self) -> Result<FreezeReport> {
        let slots = self.store.slots();
        let mut arenas = vec![(Arena::Weights, "weight")];
        arenas.extend(slots.iter().enumerate().map(|(i, name)| (Arena::State(i), *name)));
        let mut changed = vec![Vec::new(); self.masks.len()];
        let mut first_changed = None;
        let mut weights = Vec::new();
        let mut all = Fnv1a::default();
        for (column, (arena, what)) in arenas.into_iter().enumerate() {
            let digests = self.store.digests(arena, Elements::Frozen)?;
            for (parameter, digest) in digests.iter().enumerate() {
                all.digest(&self.model.parameters()[parameter].path, what, digest);
                let baseline = &self.baselines[parameter];
                let bits = baseline.columns.get(column).map_or(&[][..], Vec::as_slice);
                if Digest::of(baseline.indices.iter().copied().zip(bits.iter().copied())) == *digest {
                    continue;
                }
                let now = self.read(arena, ParameterId::of(parameter))?;
                let before = changed[parameter].len();
                for (&index, &expected) in baseline.indices.iter().zip(bits) {
                    if now[index] != expected {
                        changed[parameter].push(index);
                        let coordinates = || self.coordinates(parameter, index);
                        first_changed.get_or_insert_with(|| Changed {
                            path: self.model.parameters()[parameter].path.clone(),
                            what: what.to_owned(),
                            index,
                            coordinates: coordinates(),
                            expected,
                            got: now[index],
                        });
                    }
                }
                // The digest differs, but no frozen element does, so the mask on the device must differ from
                // the host's mask.
                if changed[parameter].len() == before {
                    self.compare_mask(parameter, &mut changed[parameter], &mut first_changed)?;
                }
            }
            if arena == Arena::Weights {
                weights = digests;
            }
        }
        let tensors = self.model.parameters().iter().enumerate().map(|(i, parameter)| {
            changed[i].sort_unstable();
            changed[i].dedup();
            TensorProof {
                path: parameter.path.clone(),
                elements: parameter.shape.elements(),
                frozen: self.masks[i].frozen_count(),
                changed: changed[i].len(),
                digest: weights[i].value(),
            }
        });
        Ok(FreezeReport {
            tensors: tensors.collect(),
            first_changed,
            digest: all.value(),
            moving_statistics: self.moving_statistics(),
        })
    }

    /// Returns the paths of the running statistics that training updates, at least in part, although all
    /// weights of their layer are frozen.
    fn moving_statistics(&self) -> Vec<String> {
        let parameters = self.model.parameters();
        let layer = |index: usize| parameters[index].path.rsplit_once('.').map(|(layer, _)| layer);
        let frozen = |index: usize| self.masks[index].frozen_count() == self.masks[index].len();
        let all_weights_frozen = |statistic: usize| {
            let mut weights = (0..parameters.len())
                .filter(|&i| parameters[i].kind == ParameterKind::Trained && layer(i) == layer(statistic));
            weights.all(frozen)
        };
        let updated = self.training.values.graph.nodes().iter().filter_map(|node| match &node.op {
            Op::UpdateStatistics(_, targets) => Some(targets.iter().map(|id| id.index())),
            _ => None,
        });
        let moving = updated.flatten().filter(|&index| !frozen(index) && all_weights_frozen(index));
        moving.map(|index| parameters[index].path.clone()).collect()
    }

    /// Adds the elements whose mask bit on the device differs from the host's.
    fn compare_mask(
        &self,
        parameter: usize,
        changed: &mut Vec<usize>,
        first_changed: &mut Option<Changed>,
    ) -> Result<()> {
        let device = self.store.read_mask(ParameterId::of(parameter))?;
        let mask = &self.masks[parameter];
        for index in (0..mask.len()).filter(|&i| mask.is_frozen(i) != device.is_frozen(i)) {
            changed.push(index);
            let coordinates = self.coordinates(parameter, index);
            first_changed.get_or_insert_with(|| Changed {
                path: self.model.parameters()[parameter].path.clone(),
                what: "mask".to_owned(),
                index,
                coordinates,
                expected: mask.is_frozen(index).into(),
                got: device.is_frozen(index).into(),
            });
        }
        Ok(())
    }

    /// Returns a digest of the bits of all parameters and optimizer state, of the step, and of the steps that
    /// elements missed if Adam counts them: equal for two bit-identical runs. Waits for the device.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Timeout`].
    pub fn digest(&self) -> Result<u64> {
        let mut all = Fnv1a::default();
        let slots = self.store.slots().iter().enumerate().map(|(i, name)| (Arena::State(i), *name));
        for (arena, what) in std::iter::once((Arena::Weights, "weight")).chain(slots) {
            for (parameter, digest) in self.store.digests(arena, Elements::All)?.iter().enumerate() {
                all.digest(&self.model.parameters()[parameter].path, what, digest);
            }
        }
        let step = self.updated_steps()?;
        for (index, parameter) in self.model.parameters().iter().enumerate() {
            let trained = self.trained_steps(ParameterId::of(index), step);
            if !trained.is_empty() {
                all.digest(&parameter.path, "steps", &Digest::of(trained.into_iter().enumerate()));
            }
        }
        all.bytes(&step.to_le_bytes());
        Ok(all.value())
    }

    fn read(&self, arena: Arena, id: ParameterId) -> Result<Vec<u32>> {
        match arena {
            Arena::Weights => self.store.read_weights(id),
            Arena::State(slot) => self.store.read_state(slot, id),
        }
    }

    /// Converts a row-major index into the parameter to an index along each axis.
    fn coordinates(&self, parameter: usize, index: usize) -> Vec<usize> {
        let mut rest = index;
        let extents = self.model.parameters()[parameter].shape.extents();
        let mut coordinates: Vec<_> = extents
            .iter()
            .rev()
            .map(|extent| {
                let at = rest % extent;
                rest /= extent;
                at
            })
            .collect();
        coordinates.reverse();
        coordinates
    }
}

impl Baseline {
    /// Returns the copy with the frozen elements of `fresh` added, with their current bits in `weights` and
    /// `state`.
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

    /// Removes all elements that are not frozen in `mask`.
    pub(super) fn keep_only(&mut self, mask: &Mask) {
        let kept: Vec<usize> = (0..self.indices.len()).filter(|&i| mask.is_frozen(self.indices[i])).collect();
        for column in &mut self.columns {
            *column = kept.iter().map(|&i| column[i]).collect();
        }
        self.indices = kept.iter().map(|&i| self.indices[i]).collect();
    }
}

/// The tensors with frozen elements, the number of the others, and all changes.
impl fmt::Display for FreezeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frozen = || self.tensors.iter().filter(|t| t.frozen > 0);
        let width = frozen().map(|t| t.path.chars().count()).max().unwrap_or(0);
        for t in frozen() {
            let share = 100.0 * t.frozen as f64 / t.elements as f64;
            writeln!(
                f,
                "  {:<width$} {:>9} of {:>9} frozen ({share:5.1} %), {} changed, digest {:016x}",
                t.path, t.frozen, t.elements, t.changed, t.digest
            )?;
        }
        match self.tensors.len() - frozen().count() {
            0 => {}
            1 => writeln!(f, "  nothing is frozen in 1 other tensor")?,
            others => writeln!(f, "  nothing is frozen in {others} other tensors")?,
        }
        write!(f, "{} of {} frozen elements changed", self.changed(), self.frozen())?;
        if let Some(c) = &self.first_changed {
            let Changed { path, what, coordinates, expected, got, .. } = c;
            write!(f, "; the first: {what} of {path}{coordinates:?} was {expected:#010x}, is {got:#010x}")?;
        }
        if !self.moving_statistics.is_empty() {
            write!(
                f,
                "\nnot frozen although the weights of their layers are: running statistics {}",
                self.moving_statistics.join(", ")
            )?;
        }
        Ok(())
    }
}
