//! The proof that frozen elements did not change, and digests of everything.

use super::Trainer;
use crate::checkpoint::Fold;
use crate::error::Result;
use crate::graph::ParameterId;
use crate::plan::{Arena, Digest, Elements};
use std::fmt;

/// The bits of one parameter's frozen elements since they were frozen. Training never reads it, and it is never saved.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    /// Ascending.
    pub indices: Vec<usize>,
    /// The weights' bits at those indices, then each state slot's.
    pub columns: Vec<Vec<u32>>,
}

/// The first frozen element that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The parameter.
    pub path: String,
    /// `weight`, the name of a state tensor, or `mask` if the device's own mask differs.
    pub what: String,
    /// The element's number, row-major.
    pub index: usize,
    /// Its place along each axis.
    pub coordinates: Vec<usize>,
    /// The bits that it was frozen with.
    pub expected: u32,
    /// The bits that it has.
    pub got: u32,
}

/// The state of one parameter's frozen elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorProof {
    /// The parameter.
    pub path: String,
    /// Its elements.
    pub elements: usize,
    /// Frozen ones.
    pub frozen: usize,
    /// Frozen ones whose weight or state has other bits than when it was frozen.
    pub changed: usize,
    /// Over (index, bits) of the frozen weights, on the device.
    pub digest: u64,
}

/// What [`Trainer::verify_frozen`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeReport {
    /// One entry a parameter.
    pub tensors: Vec<TensorProof>,
    /// The first frozen element that changed: `None`, if all is well.
    pub first_changed: Option<Changed>,
    /// Over the frozen elements of all weights and state tensors.
    pub digest: u64,
}

impl FreezeReport {
    /// Frozen elements of all parameters.
    pub fn frozen(&self) -> usize {
        self.tensors.iter().map(|t| t.frozen).sum()
    }

    /// Frozen elements that changed.
    pub fn changed(&self) -> usize {
        self.tensors.iter().map(|t| t.changed).sum()
    }
}

impl Trainer {
    /// Compares every frozen element's weight and state with the bits that it was frozen with: by digests computed on
    /// the device, element by element where a digest differs. Waits for the device.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Timeout`]. A changed element is no error: see the report.
    pub fn verify_frozen(&self) -> Result<FreezeReport> {
        let slots = self.store.slots();
        let mut arenas = vec![(Arena::Weights, "weight")];
        arenas.extend(slots.iter().enumerate().map(|(i, name)| (Arena::State(i), *name)));
        let mut changed = vec![Vec::new(); self.masks.len()];
        let mut first_changed = None;
        let mut weights = Vec::new();
        let mut whole = Fold::default();
        for (column, (arena, what)) in arenas.into_iter().enumerate() {
            let digests = self.store.digests(arena, Elements::Frozen)?;
            for (parameter, digest) in digests.iter().enumerate() {
                whole.digest(&self.model.parameters()[parameter].path, what, digest);
                let baseline = &self.baselines[parameter];
                let bits = baseline.columns.get(column).map_or(&[][..], Vec::as_slice);
                if Digest::of(baseline.indices.iter().copied().zip(bits.iter().copied())) == *digest {
                    continue;
                }
                let now = self.read(arena, ParameterId::of(parameter))?;
                let known = changed[parameter].len();
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
                // No element differs: then the device freezes others than it should.
                if changed[parameter].len() == known {
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
        Ok(FreezeReport { tensors: tensors.collect(), first_changed, digest: whole.value() })
    }

    /// Notes the elements whose mask bit on the device is not what it should be.
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

    /// A digest of the u32 bits of every parameter and state element, and of the step: equal for two runs that are
    /// bit-identical so far. Waits for the device.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Timeout`].
    pub fn digest(&self) -> Result<u64> {
        let mut whole = Fold::default();
        let slots = self.store.slots().iter().enumerate().map(|(i, name)| (Arena::State(i), *name));
        for (arena, what) in std::iter::once((Arena::Weights, "weight")).chain(slots) {
            for (parameter, digest) in self.store.digests(arena, Elements::All)?.iter().enumerate() {
                whole.digest(&self.model.parameters()[parameter].path, what, digest);
            }
        }
        whole.bytes(&self.step.to_le_bytes());
        Ok(whole.value())
    }

    fn read(&self, arena: Arena, id: ParameterId) -> Result<Vec<u32>> {
        match arena {
            Arena::Weights => self.store.read_weights(id),
            Arena::State(slot) => self.store.read_state(slot, id),
        }
    }

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

impl fmt::Display for FreezeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for t in &self.tensors {
            let share = 100.0 * t.frozen as f64 / t.elements as f64;
            writeln!(
                f,
                "  {:<16} {:>9} of {:>9} frozen ({share:5.1} %), {} changed, digest {:016x}",
                t.path, t.frozen, t.elements, t.changed, t.digest
            )?;
        }
        write!(f, "{} of {} frozen elements changed", self.changed(), self.frozen())?;
        if let Some(c) = &self.first_changed {
            let Changed { path, what, coordinates, expected, got, .. } = c;
            write!(f, "; the first: {what} of {path}{coordinates:?} was {expected:#010x}, is {got:#010x}")?;
        }
        Ok(())
    }
}
