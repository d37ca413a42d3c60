//! Loading: all is read and checked before anything is changed.

use super::Trainer;
use super::freeze::Change;
use super::proof::Baseline;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::ParameterId;
use crate::mask::Mask;
use std::path::Path;
use wildmatch::WildMatch;

/// What a file says, checked.
struct Loaded {
    changes: Vec<Change>,
    step: u64,
    draws: u64,
    seed: u64,
    learning_rate: f64,
}

impl Trainer {
    /// Takes over everything that [`Trainer::save`] wrote: weights, masks, optimizer state, step, learning rate, seed.
    /// Training then goes on bit for bit as if it had not been interrupted. Running metrics begin anew, and a loss that was
    /// not finite is forgotten.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] if the file is damaged, is of another model or optimizer, or its frozen
    /// elements are not those that its own digest was made of: the trainer is as it was then.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let checkpoint = Checkpoint::read(path)?;
        let refused = |why| Error::Checkpoint { path: path.to_owned(), why };
        let loaded = self.examine(&checkpoint).map_err(refused)?;
        self.metrics_forgotten()?;
        self.optimizer.set_learning_rate(loaded.learning_rate)?;
        self.options.seed = loaded.seed;
        self.step = loaded.step;
        self.draws = loaded.draws;
        self.apply(loaded.changes)
    }

    /// Takes weights alone from a file, of any program: those of the parameters that `glob` matches, by path and in this
    /// crate's layouts. Frozen elements keep their bits; state, masks and step stay. Gives the number of parameters set.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if `glob` matches none; [`Error::Io`]; [`Error::Checkpoint`] if the file lacks one of
    /// them or has it in another type or shape: nothing was changed then.
    pub fn load_weights(&mut self, path: impl AsRef<Path>, glob: &str) -> Result<usize> {
        let path = path.as_ref();
        let pattern = WildMatch::new(glob);
        let checkpoint = Checkpoint::read(path)?;
        let mut weights = Vec::new();
        for (index, parameter) in self.model.parameters().iter().enumerate() {
            if !pattern.matches(&parameter.path) {
                continue;
            }
            let tensor = checkpoint
                .typed(&parameter.path, "f32", parameter.shape.extents())
                .map_err(|why| Error::Checkpoint { path: path.to_owned(), why })?;
            let mut bits = tensor.bits().to_vec();
            let now = self.store.read_weights(ParameterId::of(index))?;
            self.masks[index].frozen_indices().for_each(|i| bits[i] = now[i]);
            weights.push((ParameterId::of(index), bits));
        }
        if weights.is_empty() {
            return Err(self.unknown(glob));
        }
        for (id, bits) in &weights {
            self.store.write_weights(*id, bits)?;
        }
        Ok(weights.len())
    }

    /// What the file says, if it fits this trainer; else why not.
    fn examine(&self, checkpoint: &Checkpoint) -> std::result::Result<Loaded, String> {
        if checkpoint.notes().is_empty() {
            return Err("expected notes of this crate, got none; load_weights takes weights alone".to_owned());
        }
        checkpoint.expect("optimizer", &describe(&self.optimizer))?;
        let slots = self.store.slots();
        checkpoint.expect("slots", &slots.join(" "))?;
        let paths = self.model.parameters().iter().map(|p| p.path.as_str());
        let known = checkpoint.parameters();
        if !paths.clone().eq(known.iter().copied()) {
            return Err(format!("expected parameters {:?}, got {known:?}", paths.collect::<Vec<_>>()));
        }
        let mut names = Vec::new();
        let mut changes = Vec::new();
        for (index, parameter) in self.model.parameters().iter().enumerate() {
            let shape = parameter.shape.extents();
            let weights = checkpoint.typed(&parameter.path, "f32", shape)?.bits();
            names.push(parameter.path.clone());
            let mut state = Vec::new();
            for slot in slots {
                let name = format!("state.{slot}.{}", parameter.path);
                state.push(checkpoint.typed(&name, "f32", shape)?.bits().to_vec());
                names.push(name);
            }
            let mask = format!("mask.{}", parameter.path);
            let mask = if checkpoint.tensor(&mask).is_some() {
                let tensor = checkpoint.typed(&mask, "u32", &[weights.len().div_ceil(32)])?;
                names.push(mask);
                Mask::from_words(tensor.bits().to_vec(), weights.len()).map_err(|error| error.to_string())?
            } else {
                Mask::none(weights.len())
            };
            changes.push(Change {
                id: ParameterId::of(index),
                baseline: Baseline::default().with(&mask, weights, &state),
                mask,
                weights: Some(weights.to_vec()),
                state: state.into_iter().enumerate().collect(),
            });
        }
        if let Some((name, _)) = checkpoint.tensors().iter().find(|(name, _)| !names.contains(name)) {
            return Err(format!("tensor {name:?}: expected none of this name"));
        }
        checkpoint.expect("frozen", &format!("{:016x}", checkpoint.frozen_digest()))?;
        let learning_rate: f64 = checkpoint.number("learning_rate")?;
        let rate = self.optimizer.clone().set_learning_rate(learning_rate);
        rate.map_err(|error| error.to_string())?;
        Ok(Loaded {
            changes,
            step: checkpoint.number("step")?,
            draws: checkpoint.number("draws")?,
            seed: checkpoint.number("seed")?,
            learning_rate,
        })
    }

    /// Running sums, and what was read of them, are those of another run from here on.
    fn metrics_forgotten(&mut self) -> Result<()> {
        self.forget_non_finite()?;
        self.training.plan.clear_sums()?;
        self.progress = None;
        Ok(())
    }
}

/// The optimizer in words, without the learning rate, which may change at every step and is noted apart.
pub(super) fn describe(optimizer: &crate::optimizer::Optimizer) -> String {
    let whole = optimizer.describe();
    let rest: Vec<_> = whole.split(' ').filter(|word| !word.starts_with("learning-rate=")).collect();
    rest.join(" ")
}
