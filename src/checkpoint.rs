//! Checkpoints: the parameters, masks and optimizer state of a trainer in a safetensors file.

pub use crate::error::printable;
pub use crate::tensor_file::{Checkpoint, Tensor, VERSION};

use crate::digest::{Digest, Fnv1a};
use crate::error::Result;
use crate::mask::Mask;
use crate::model::Model;

/// Name of the note with the [architecture](Model::to_json).
pub(crate) const ARCHITECTURE: &str = "architecture";

impl Checkpoint {
    /// Returns the model whose parameters the file has; `None` if the file does not name an architecture, as those
    /// of other programs.
    ///
    /// # Errors
    /// As [`Model::from_json`].
    pub fn model(&self) -> Result<Option<Model>> {
        self.notes().get(ARCHITECTURE).map(|text| Model::from_json(text)).transpose()
    }

    /// Paths of the parameters, in the model's order; for a file of another program, all `f32` tensors by
    /// name.
    pub fn parameters(&self) -> Vec<&str> {
        let mut numbered: Vec<(usize, &str)> = Vec::new();
        for (name, path) in self.notes() {
            if let Some(Ok(number)) = name.strip_prefix("parameter.").map(str::parse) {
                numbered.push((number, path));
            }
        }
        numbered.sort_unstable();
        if !numbered.is_empty() {
            return numbered.into_iter().map(|(_, path)| path).collect();
        }
        self.tensors().iter().filter(|(_, t)| t.dtype() == "f32").map(|(name, _)| name.as_str()).collect()
    }

    /// Names of the optimizer state tensors of each parameter.
    pub fn slots(&self) -> Vec<&str> {
        self.notes().get("slots").map_or(Vec::new(), |text| text.split_whitespace().collect())
    }

    /// Mask of a parameter; nothing is frozen if the file has no mask for it, or one of another length.
    pub fn mask(&self, path: &str) -> Mask {
        let len = self.tensor(path).map_or(0, |tensor| tensor.bits().len());
        let stored = self.tensor(&format!("mask.{path}"));
        let mask = stored.and_then(|tensor| Mask::from_words(tensor.bits().to_vec(), len).ok());
        mask.unwrap_or_else(|| Mask::none_of(len))
    }

    /// Digest of all weights and of the state tensors in `slots`, or of their frozen elements only.
    pub fn digest(&self, slots: &[&str], frozen: bool) -> u64 {
        self.fold(slots, frozen).value()
    }

    /// Digest of the frozen elements of all weights and state; equal to that of
    /// [`crate::trainer::FreezeReport`].
    pub fn frozen_digest(&self) -> u64 {
        self.digest(&self.slots(), true)
    }

    /// Digest of all weights, all state, the step and the steps that elements missed; equal to
    /// [`crate::Trainer::digest`]. `None` if the file has no step.
    pub fn training_digest(&self) -> Option<u64> {
        let step: u64 = self.number("step").ok()?;
        let mut fold = self.fold(&self.slots(), false);
        for path in self.parameters() {
            let Some(steps) = self.tensor(&format!("steps.{path}")) else { continue };
            // One number stands for all elements of the parameter.
            let elements = self.tensor(path).map_or(0, |tensor| tensor.bits().len());
            let each = steps.bits().iter().copied().cycle().take(elements);
            fold.digest(path, "steps", &Digest::of(each.enumerate()));
        }
        fold.bytes(&step.to_le_bytes());
        Some(fold.value())
    }

    /// Hashes the weights and the state tensors in `slots`, or only their frozen elements.
    fn fold(&self, slots: &[&str], frozen: bool) -> Fnv1a {
        let mut fold = Fnv1a::default();
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
