//! Saving.

use super::Trainer;
use super::load::describe;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::Result;
use crate::graph::ParameterId;
use std::path::Path;

impl Trainer {
    /// Writes weights, masks, optimizer state and the step to a safetensors file: `PATH` for weights, `mask.PATH` for
    /// packed mask bits (1 = frozen) where anything is frozen, `state.SLOT.PATH`. An older file of that name is replaced
    /// whole or not at all. [`Trainer::load`] reads it.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Checkpoint`], [`crate::Error::DeviceLost`], [`crate::Error::Timeout`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_with_notes(path, &[])
    }

    /// [`Trainer::save`], with notes of the caller's own, each under `note.NAME` in the file's header. No name or value
    /// may hold a line break.
    ///
    /// # Errors
    /// As [`Trainer::save`].
    pub fn save_with_notes(&self, path: impl AsRef<Path>, notes: &[(&str, String)]) -> Result<()> {
        let mut checkpoint = Checkpoint::default();
        for (name, value) in notes {
            checkpoint.note(&format!("note.{name}"), value);
        }
        for (index, parameter) in self.model.parameters().iter().enumerate() {
            let id = ParameterId::of(index);
            checkpoint.note(&format!("parameter.{index}"), &parameter.path);
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
        checkpoint.note("step", self.step);
        checkpoint.note("optimizer", describe(&self.optimizer));
        checkpoint.note("learning_rate", self.optimizer.learning_rate());
        checkpoint.note("seed", self.options.seed);
        checkpoint.note("draws", self.draws);
        checkpoint.note("slots", self.store.slots().join(" "));
        checkpoint.note("frozen", format!("{:016x}", checkpoint.frozen_digest()));
        checkpoint.write(path.as_ref())
    }
}
