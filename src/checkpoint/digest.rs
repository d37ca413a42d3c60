//! Checksums of what is in a file.

use super::Checkpoint;
use crate::kernels::Digest;
use crate::mask::Mask;

/// FNV-1a over names and digests.
pub(crate) struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Fold(0xcbf2_9ce4_8422_2325)
    }
}

impl Fold {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub(crate) fn digest(&mut self, path: &str, what: &str, digest: &Digest) {
        self.bytes(path.as_bytes());
        self.bytes(what.as_bytes());
        self.bytes(&digest.value().to_le_bytes());
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }
}

impl Checkpoint {
    /// Over every note but `content` itself, and every tensor's name, type, shape and bits.
    pub(super) fn content(&self) -> String {
        let mut fold = Fold::default();
        for (name, value) in self.notes.iter().filter(|(name, _)| *name != "content") {
            fold.bytes(format!("{name} = {value}\n").as_bytes());
        }
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, tensor) in tensors {
            let kind = format!("{} {:?}", tensor.dtype(), tensor.shape);
            fold.digest(name, &kind, &Digest::of(tensor.bits.iter().copied().enumerate()));
        }
        format!("{:016x}", fold.value())
    }

    /// The paths of the parameters, in the model's order; for a file of another program, all `f32` tensors by name.
    pub fn parameters(&self) -> Vec<&str> {
        let mut numbered: Vec<(usize, &str)> = Vec::new();
        for (name, path) in &self.notes {
            if let Some(Ok(number)) = name.strip_prefix("parameter.").map(str::parse) {
                numbered.push((number, path));
            }
        }
        numbered.sort_unstable();
        if !numbered.is_empty() {
            return numbered.into_iter().map(|(_, path)| path).collect();
        }
        self.tensors.iter().filter(|(_, t)| t.dtype() == "f32").map(|(name, _)| name.as_str()).collect()
    }

    /// The mask of a parameter; nothing is frozen where the file has none, or none that fits.
    pub fn mask(&self, path: &str) -> Mask {
        let len = self.tensor(path).map_or(0, |tensor| tensor.bits.len());
        let stored = self.tensor(&format!("mask.{path}"));
        let mask = stored.and_then(|tensor| Mask::from_words(tensor.bits.clone(), len).ok());
        mask.unwrap_or_else(|| Mask::none(len))
    }

    /// A digest of all weights, or of frozen ones alone, and of the state tensors that `slots` names.
    pub fn digest(&self, slots: &[&str], frozen: bool) -> u64 {
        self.fold(slots, frozen).value()
    }

    /// Of the frozen elements of weights and all state: that of [`crate::trainer::FreezeReport`].
    pub fn frozen_digest(&self) -> u64 {
        self.digest(&self.slots(), true)
    }

    /// Of all weights, all state and the step: that of [`crate::Trainer::digest`]. `None` without a step.
    pub fn training_digest(&self) -> Option<u64> {
        let step: u64 = self.number("step").ok()?;
        let mut fold = self.fold(&self.slots(), false);
        fold.bytes(&step.to_le_bytes());
        Some(fold.value())
    }

    /// Names of the state tensors that each parameter has.
    pub fn slots(&self) -> Vec<&str> {
        self.notes.get("slots").map_or(Vec::new(), |text| text.split_whitespace().collect())
    }

    fn fold(&self, slots: &[&str], frozen: bool) -> Fold {
        let mut fold = Fold::default();
        for slot in std::iter::once(None).chain(slots.iter().map(Some)) {
            for path in self.parameters() {
                let name = slot.map_or(path.to_owned(), |slot| format!("state.{slot}.{path}"));
                let bits = self.tensor(&name).map_or(&[][..], |tensor| tensor.bits());
                let mask = self.mask(path);
                let elements = bits.iter().copied().enumerate();
                let digest = Digest::of(elements.filter(|(index, _)| !frozen || mask.is_frozen(*index)));
                fold.digest(path, slot.unwrap_or(&"weight"), &digest);
            }
        }
        fold
    }
}
