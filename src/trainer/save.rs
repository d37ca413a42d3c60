//! Saving.

use super::Trainer;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::Result;
use crate::graph::ParameterId;
use std::path::Path;

impl Trainer {
    /// Writes weights, masks, optimizer state and the step to a safetensors file: `PATH` for weights, `mask.PATH` for
    /// packed mask bits (1 = frozen) where anything is frozen, `state.SLOT.PATH`. An older file of that name is replaced whole or not at all.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Checkpoint`], [`crate::Error::DeviceLost`], [`crate::Error::Timeout`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut checkpoint = Checkpoint::default();
        checkpoint.note("step", self.step);
        checkpoint.note("optimizer", self.optimizer.name());
        for (index, parameter) in self.model.parameters().iter().enumerate() {
            let id = ParameterId::of(index);
            let shape = parameter.shape.extents().to_vec();
            let weights = self.store.read_weights(id)?;
            checkpoint.push(parameter.path.clone(), Tensor::f32_bits(shape.clone(), weights));
            let mask = &self.masks[index];
            if mask.frozen_count() > 0 {
                let words = mask.words().to_vec();
                checkpoint.push(format!("mask.{}", parameter.path), Tensor::u32(vec![words.len()], words));
            }
            for (slot, name) in self.store.slots().iter().enumerate() {
                let state = self.store.read_state(slot, id)?;
                let name = format!("state.{name}.{}", parameter.path);
                checkpoint.push(name, Tensor::f32_bits(shape.clone(), state));
            }
        }
        checkpoint.write(path.as_ref())
    }
}
