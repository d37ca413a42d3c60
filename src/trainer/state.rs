//! The state of a trainer: parameters, gradients and optimizer state by path, snapshots, checkpoints.

use super::element_steps::ElementSteps;
use super::freeze::MaskChange;
use super::proof::{Baseline, Changed};
use super::{GradientPolicy, Trainer};
use crate::checkpoint::{ARCHITECTURE, Checkpoint, Tensor};
use crate::error::{Error, Result};
use crate::graph::{ParameterId, ParameterKind};
use crate::layer::ParameterSpec;
use crate::mask::Mask;
use crate::optimizer::Optimizer;
use std::path::Path;
use wildmatch::WildMatch;

/// Copy of the weights, optimizer state and step of a trainer, as bits in host memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Bits of each parameter.
    pub(super) weights: Vec<Vec<u32>>,
    /// Bits of each parameter's state slots.
    pub(super) state: Vec<Vec<Vec<u32>>>,
    /// The number of steps in which each element was trained; empty for a parameter whose elements were all
    /// trained in `step` steps.
    trained: Vec<Vec<u32>>,
    step: u64,
}

/// Handling, in [`Trainer::rewind`], of the optimizer state of trainable elements and of the number of steps
/// (of the trainer, and of these elements), on which Adam's bias corrections depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewindState {
    /// Keeps the current state and number of steps.
    Keep,
    /// Restores the state and the number of steps of the snapshot.
    Restore,
    /// Sets both to 0.
    Zero,
}

/// The validated contents of a checkpoint.
struct Loaded {
    changes: Vec<MaskChange>,
    step: u64,
    draws: u64,
    seed: u64,
    learning_rate: f64,
}

impl Trainer {
    /// Returns the values of a parameter, row-major. Waits for the device.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn parameter(&self, path: &str) -> Result<Vec<f32>> {
        let bits = self.store.read_weights(self.find(path)?)?;
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }

    /// Sets the trainable elements of a parameter; frozen ones keep their bits (see
    /// [`Trainer::set_and_freeze`] for those).
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::ShapeMismatch`]; [`Error::InvalidArgument`] for a running statistic
    /// that is not finite, or a variance below 0.
    pub fn set_parameter(&mut self, path: &str, values: &[f32]) -> Result<()> {
        let id = self.find(path)?;
        let bits = self.with_trainable(id, values)?;
        self.store.write_weights(id, &bits)
    }

    /// Returns the bits of a parameter with its trainable elements replaced.
    fn with_trainable(&self, id: ParameterId, values: &[f32]) -> Result<Vec<u32>> {
        let parameter = &self.model.parameters()[id.index()];
        let mut bits = self.store.read_weights(id)?;
        if values.len() != bits.len() {
            return Err(Error::shape(&parameter.path, format!("{} elements", bits.len()), values.len()));
        }
        self.set_trainable(id, &mut bits, values);
        match wrong_statistic(parameter, &bits, &self.masks[id.index()]) {
            Some(wrong) => Err(Error::argument(wrong.at, wrong.expected, wrong.got)),
            None => Ok(bits),
        }
    }

    /// Returns paths and values of all parameters, in the order of the model. Waits for the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn parameters(&self) -> Result<Vec<(String, Vec<f32>)>> {
        let all = self.model.parameters().iter();
        all.map(|parameter| Ok((parameter.path.clone(), self.parameter(&parameter.path)?))).collect()
    }

    /// Returns paths and masks of the parameters with frozen elements, in the order of the model.
    pub fn masks(&self) -> Vec<(String, Mask)> {
        let all = self.model.parameters().iter().zip(&self.masks);
        let frozen = all.filter(|(_, mask)| mask.frozen_count() > 0);
        frozen.map(|(parameter, mask)| (parameter.path.clone(), mask.clone())).collect()
    }

    /// Sets the trainable elements of several parameters, given as paths and values; frozen elements keep their
    /// bits. After an error, nothing was changed.
    ///
    /// # Errors
    /// As [`Trainer::set_parameter`]; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn set_parameters<P: AsRef<str>>(&mut self, parameters: &[(P, Vec<f32>)]) -> Result<()> {
        let mut validated = Vec::new();
        for (path, values) in parameters {
            let id = self.find(path.as_ref())?;
            validated.push((id, self.with_trainable(id, values)?));
        }
        validated.iter().try_for_each(|(id, bits)| self.store.write_weights(*id, bits))
    }

    /// Returns the mask of a parameter: which of its elements are frozen.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`].
    pub fn mask(&self, path: &str) -> Result<&Mask> {
        Ok(&self.masks[self.find(path)?.index()])
    }

    /// Returns the names of the optimizer's state tensors.
    pub fn state_slots(&self) -> &'static [&'static str] {
        self.store.slots()
    }

    /// Returns one state tensor of a parameter; `slot` is its number in [`Trainer::state_slots`]. Waits for
    /// the device.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::InvalidArgument`] for a number out of range.
    pub fn state(&self, path: &str, slot: usize) -> Result<Vec<f32>> {
        let bits = self.store.read_state(slot, self.find(path)?)?;
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }

    /// Sets the optimizer state of a parameter's trainable elements; frozen elements keep their state. The
    /// number of steps that Adam's bias correction counts does not change.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::InvalidArgument`], [`Error::ShapeMismatch`].
    pub fn set_state(&mut self, path: &str, slot: usize, values: &[f32]) -> Result<()> {
        let id = self.find(path)?;
        let mut bits = self.store.read_state(slot, id)?;
        if values.len() != bits.len() {
            return Err(Error::shape(path, format!("{} elements", bits.len()), values.len()));
        }
        self.set_trainable(id, &mut bits, values);
        self.store.write_state(slot, id, &bits)
    }

    fn set_trainable(&self, id: ParameterId, bits: &mut [u32], values: &[f32]) {
        let mask = &self.masks[id.index()];
        for (index, (bits, value)) in bits.iter_mut().zip(values).enumerate() {
            if !mask.is_frozen(index) {
                *bits = value.to_bits();
            }
        }
    }

    /// Returns the gradient of the last step's mean loss with respect to a parameter, before weight decay;
    /// exactly 0 for frozen elements, unless the policy is [`GradientPolicy::Dense`]. Waits for the device.
    ///
    /// # Errors
    /// [`Error::GradientNotKept`] without `keep_gradients` or before the first step;
    /// [`Error::UnknownParameter`].
    pub fn gradient(&self, path: &str) -> Result<Vec<f32>> {
        let id = self.find(path)?;
        if !self.options.keep_gradients || self.step == 0 {
            return Err(Error::GradientNotKept { path: path.to_owned() });
        }
        let mask = &self.masks[id.index()];
        let masked = self.options.gradient_policy == GradientPolicy::Masked;
        let bits = self.store.read_gradient(id)?.into_iter().enumerate();
        Ok(bits.map(|(i, b)| if masked && mask.is_frozen(i) { 0.0 } else { f32::from_bits(b) }).collect())
    }

    /// Returns the id of the parameter with this path.
    pub(super) fn find(&self, path: &str) -> Result<ParameterId> {
        let found = self.model.parameters().iter().position(|p| p.path == path);
        found.map(ParameterId::of).ok_or_else(|| self.unknown(path))
    }

    /// Returns the trained parameters that a glob matches; an error if there are none. `*` matches any
    /// characters, `?` any single one.
    pub(super) fn matching(&self, glob: &str) -> Result<Vec<ParameterId>> {
        self.matching_kind(glob, ParameterKind::Trained)
    }

    /// Returns the parameters of one kind that a glob matches; an error if there are none. For running
    /// statistics, the glob may match the path of the batch norm instead.
    pub(super) fn matching_kind(&self, glob: &str, kind: ParameterKind) -> Result<Vec<ParameterId>> {
        let pattern = WildMatch::new(glob);
        let matches = |p: &ParameterSpec| {
            let layer = p.path.rsplit_once('.').map_or(p.path.as_str(), |(layer, _)| layer);
            let is_statistic = [kind, p.kind] == [ParameterKind::Statistic; 2];
            pattern.matches(&p.path) || (is_statistic && pattern.matches(layer))
        };
        let all = self.model.parameters().iter().enumerate();
        let (found, others): (Vec<_>, Vec<_>) =
            all.filter(|(_, p)| matches(p)).partition(|(_, p)| p.kind == kind);
        if let (true, Some((_, other))) = (found.is_empty(), others.first()) {
            let (expected, got) = match kind {
                ParameterKind::Trained => (
                    "a trained parameter; Trainer::freeze_statistics and --freeze-statistics freeze running statistics",
                    "the running statistic",
                ),
                ParameterKind::Statistic => (
                    "a running statistic; Trainer::freeze and --freeze freeze trained parameters",
                    "the trained parameter",
                ),
            };
            return Err(Error::argument(glob, expected, format!("{got} {}", other.path)));
        }
        if found.is_empty() {
            return Err(self.unknown(glob));
        }
        Ok(found.into_iter().map(|(index, _)| ParameterId::of(index)).collect())
    }

    /// Returns the error for an unknown path or glob.
    pub(super) fn unknown(&self, path: &str) -> Error {
        Error::unknown_parameter(path, self.model.parameters().iter().map(|p| p.path.as_str()))
    }

    /// Reads all weights and optimizer state. Waits for the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let ids = || (0..self.masks.len()).map(ParameterId::of);
        let step = self.updated_steps()?;
        Ok(Snapshot {
            weights: ids().map(|id| self.store.read_weights(id)).collect::<Result<_>>()?,
            state: ids().map(|id| self.read_state(id)).collect::<Result<_>>()?,
            trained: ids().map(|id| self.trained_steps(id, step)).collect(),
            step,
        })
    }

    /// Resets the trainable elements to a snapshot of this trainer, or of another trainer with the same model
    /// and optimizer. Frozen elements keep their bits and state.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a snapshot of another model or optimizer, and [`Error::LimitExceeded`] or
    /// [`Error::OutOfMemory`] for the steps that elements missed: nothing was changed; [`Error::DeviceLost`],
    /// [`Error::Timeout`].
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
        let step = match state {
            RewindState::Keep => self.step,
            RewindState::Restore => snapshot.step,
            RewindState::Zero => 0,
        };
        let steps = self.rewound_steps(snapshot, state, step);
        let missed = steps.iter().zip(&self.masks).any(|(steps, mask)| steps.any_missed(mask));
        let compiled = self.compile_for(&self.masks, missed)?;
        let recompiled = missed && !self.store.has_missed_steps();
        self.install(compiled);
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
        for (index, steps) in steps.into_iter().enumerate() {
            self.set_element_steps(ParameterId::of(index), steps)?;
        }
        self.step = step;
        if recompiled {
            self.recompile_prefix();
        }
        Ok(())
    }

    /// Returns the steps of the elements of each parameter after a rewind to `step`.
    fn rewound_steps(&self, snapshot: &Snapshot, state: RewindState, step: u64) -> Vec<ElementSteps> {
        let of_parameter = |(index, mask): (usize, &Mask)| {
            let id = ParameterId::of(index);
            if state == RewindState::Keep || !self.counts_steps_of(id) {
                return self.element_steps[index].clone();
            }
            let mut trained = match state {
                RewindState::Restore => snapshot.trained[index].clone(),
                RewindState::Keep | RewindState::Zero => Vec::new(),
            };
            trained.resize(mask.len(), step as u32);
            let mut now = self.trained_steps(id, self.step);
            now.resize(mask.len(), self.step as u32);
            mask.frozen_indices().for_each(|index| trained[index] = now[index]);
            ElementSteps::new(trained, mask, step)
        };
        self.masks.iter().enumerate().map(of_parameter).collect()
    }

    /// Writes weights, masks, optimizer state and the step to a safetensors file: `PATH` for weights,
    /// `mask.PATH` for packed mask bits (1 = frozen) where anything is frozen, `state.SLOT.PATH` for
    /// optimizer state, `steps.PATH` for the number of steps in which elements were trained, where they
    /// missed some and Adam counts them. An existing file is replaced atomically. [`Trainer::load`] reads
    /// it.
    ///
    /// # Errors
    /// [`Error::FrozenChanged`] if a frozen element has changed since it was frozen; [`Error::Io`],
    /// [`Error::Checkpoint`], [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_with_notes(path, &[])
    }

    /// [`Trainer::save`] with additional metadata, stored as `note.NAME` in the file's header. Names and
    /// values must not contain line breaks.
    ///
    /// # Errors
    /// As [`Trainer::save`].
    pub fn save_with_notes(&self, path: impl AsRef<Path>, notes: &[(&str, String)]) -> Result<()> {
        self.checkpoint(notes)?.write(path.as_ref())
    }

    /// Returns what [`Trainer::save_with_notes`] writes to a file.
    ///
    /// # Errors
    /// [`Error::FrozenChanged`] if a frozen element has changed since it was frozen; [`Error::DeviceLost`],
    /// [`Error::Timeout`].
    pub fn checkpoint(&self, notes: &[(&str, String)]) -> Result<Checkpoint> {
        let proof = self.verify_frozen()?;
        if let Some(Changed { path, what, index, expected, got, .. }) = proof.first_changed {
            return Err(Error::FrozenChanged { path, what, index, expected, got });
        }
        let mut checkpoint = Checkpoint::default();
        for (name, value) in notes {
            checkpoint.note(&format!("note.{name}"), value);
        }
        let step = self.updated_steps()?;
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
            let mut trained = self.trained_steps(id, step);
            if let Some(&first) = trained.first() {
                // One number for all elements, if they have the same: a tensor that was frozen as a whole.
                let same = trained.iter().all(|&steps| steps == first);
                trained.truncate(if same { 1 } else { trained.len() });
                let shape = if same { vec![1] } else { shape };
                checkpoint.push(format!("steps.{}", parameter.path), Tensor::u32(shape, trained));
            }
        }
        if let Some(counts) = self.optimizer.bias_correction() {
            checkpoint.note(BIAS_CORRECTION, counts);
        }
        checkpoint.note(ARCHITECTURE, self.model.to_json());
        checkpoint.note("step", step);
        checkpoint.note("optimizer", describe(&self.optimizer));
        checkpoint.note("learning_rate", self.optimizer.learning_rate());
        checkpoint.note("seed", self.options.seed);
        checkpoint.note("draws", self.draws);
        checkpoint.note("slots", self.store.slots().join(" "));
        // The digest covers the bits that the frozen elements had when they were frozen; the proof above
        // compared these with the bits on the device. Loading rejects a file whose frozen elements do not
        // match the digest.
        checkpoint.note("frozen", format!("{:016x}", proof.digest));
        Ok(checkpoint)
    }

    /// Restores everything that [`Trainer::save`] wrote: weights, masks, optimizer state, step, learning
    /// rate, seed. Training then continues bit by bit as if it had not been interrupted. Running metrics
    /// start from 0, and the report of a non-finite loss is cleared.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] if the file is damaged, is of another model or optimizer, has a
    /// running statistic that is not finite or a variance below 0, or its
    /// frozen elements do not match its own digest. The trainer is not changed then.
    /// [`Trainer::load_keeping_rates`] accepts another schedule or weight decay.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.load_from(path.as_ref(), false)
    }

    /// [`Trainer::load`] from a checkpoint in memory; `path` is its name in messages.
    ///
    /// # Errors
    /// As [`Trainer::load`], but for [`Error::Io`].
    pub fn restore(&mut self, checkpoint: &Checkpoint, path: impl AsRef<Path>) -> Result<()> {
        self.restore_from(checkpoint, path.as_ref(), false)
    }

    /// As [`Trainer::load`], but keeps this trainer's learning rate, learning-rate schedule and weight decay,
    /// which may differ from those in the file: to continue with a lower rate after a non-finite loss, for
    /// example.
    ///
    /// # Errors
    /// As [`Trainer::load`].
    pub fn load_keeping_rates(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.load_from(path.as_ref(), true)
    }

    fn load_from(&mut self, path: &Path, keep_rates: bool) -> Result<()> {
        self.restore_from(&Checkpoint::read(path)?, path, keep_rates)
    }

    fn restore_from(&mut self, checkpoint: &Checkpoint, path: &Path, keep_rates: bool) -> Result<()> {
        let refused = |why| Error::Checkpoint { path: path.to_owned(), why, source: None };
        let loaded = self.validate_checkpoint(checkpoint, keep_rates).map_err(refused)?;
        self.apply(loaded.changes)?;
        self.reset_metrics()?;
        if !keep_rates {
            self.optimizer.set_learning_rate(loaded.learning_rate)?;
        }
        self.options.seed = loaded.seed;
        self.step = loaded.step;
        self.draws = loaded.draws;
        Ok(())
    }

    /// Loads the weights of the parameters that `glob` matches from a safetensors file of any program, by
    /// path and in this crate's layouts. Frozen elements keep their bits; optimizer state, masks and step do
    /// not change. Returns the number of parameters set.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if `glob` matches no parameter; [`Error::Io`]; [`Error::Checkpoint`] if
    /// the file lacks one of the parameters, contains it with another type or shape, or has a running statistic
    /// that is not finite, or a variance below 0. Nothing was changed then.
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
                .map_err(|why| Error::Checkpoint { path: path.to_owned(), why, source: None })?;
            let mut bits = tensor.bits().to_vec();
            let now = self.store.read_weights(ParameterId::of(index))?;
            self.masks[index].frozen_indices().for_each(|i| bits[i] = now[i]);
            if let Some(wrong) = wrong_statistic(parameter, &bits, &self.masks[index]) {
                return Err(Error::Checkpoint {
                    path: path.to_owned(),
                    why: wrong.to_string(),
                    source: None,
                });
            }
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

    /// Validates a checkpoint of this trainer's model and optimizer; with `keep_rates`, schedule and weight
    /// decay may differ.
    fn validate_checkpoint(
        &self,
        checkpoint: &Checkpoint,
        keep_rates: bool,
    ) -> std::result::Result<Loaded, String> {
        if checkpoint.notes().is_empty() {
            return Err(
                "expected the metadata of this crate, got none; use load_weights to load weights alone"
                    .to_owned(),
            );
        }
        let (expected, stored) = (describe(&self.optimizer), checkpoint.notes().get("optimizer"));
        let stored = stored.map_or("none", String::as_str);
        let same_rule = without_rates(stored) == without_rates(&expected);
        if expected != stored && !(keep_rates && same_rule) {
            let advice =
                if same_rule { "; Trainer::load_keeping_rates and --override accept this" } else { "" };
            return Err(format!("optimizer: expected {expected:?}, got {stored:?}{advice}"));
        }
        // Files from before this note existed can be continued with either count.
        let counts =
            self.optimizer.bias_correction().filter(|_| checkpoint.notes().contains_key(BIAS_CORRECTION));
        if let Some(counts) = counts {
            checkpoint.expect(BIAS_CORRECTION, &counts.to_string())?;
        }
        let step = count_of(checkpoint, "step")?;
        let slots = self.store.slots();
        checkpoint.expect("slots", &slots.join(" "))?;
        let paths = self.model.parameters().iter().map(|p| p.path.as_str());
        let stored = checkpoint.parameters();
        if !paths.clone().eq(stored.iter().copied()) {
            return Err(format!("expected parameters {:?}, got {stored:?}", paths.collect::<Vec<_>>()));
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
                Mask::none_of(weights.len())
            };
            if let Some(wrong) = wrong_statistic(parameter, weights, &mask) {
                return Err(wrong.to_string());
            }
            let id = ParameterId::of(index);
            let mut steps = ElementSteps::default();
            if self.counts_steps_of(id) {
                let mut trained = vec![step as u32; weights.len()];
                let name = format!("steps.{}", parameter.path);
                if let Some(stored) = checkpoint.tensor(&name) {
                    let shape = if stored.shape() == [1] { &[1] } else { shape };
                    let stored = checkpoint.typed(&name, "u32", shape)?.bits();
                    trained.iter_mut().zip(stored.iter().cycle()).for_each(|(all, &one)| *all = one);
                    names.push(name);
                } else if counts.is_none() {
                    // The file does not say when elements were frozen: those without state were never trained.
                    let untrained = |&index: &usize| state.iter().all(|slot| slot[index] == 0);
                    mask.frozen_indices().filter(untrained).for_each(|index| trained[index] = 0);
                }
                steps = ElementSteps::new(trained, &mask, step);
            }
            changes.push(MaskChange {
                id,
                baseline: Baseline::default().with(&mask, weights, &state),
                mask,
                weights: Some(weights.to_vec()),
                state: state.into_iter().enumerate().collect(),
                steps,
            });
        }
        if let Some((name, _)) = checkpoint.tensors().iter().find(|(name, _)| !names.contains(name)) {
            return Err(format!("expected only tensors of this model and optimizer, got {name:?}"));
        }
        checkpoint.expect("frozen", &format!("{:016x}", checkpoint.frozen_digest()))?;
        let learning_rate: f64 = checkpoint.number("learning_rate")?;
        let validated = self.optimizer.clone().set_learning_rate(learning_rate);
        validated.map_err(|error| error.to_string())?;
        Ok(Loaded {
            changes,
            step,
            draws: count_of(checkpoint, "draws")?,
            seed: checkpoint.number("seed")?,
            learning_rate,
        })
    }

    /// Resets the running metrics, which belong to the training before a load.
    fn reset_metrics(&mut self) -> Result<()> {
        self.forget_non_finite()?;
        self.training.plan.clear_sums()?;
        self.progress = None;
        Ok(())
    }
}

/// Returns a count that a checkpoint stores: far beyond any training, and far from where counting on would
/// overflow.
fn count_of(checkpoint: &Checkpoint, name: &str) -> std::result::Result<u64, String> {
    match checkpoint.number::<u64>(name)? {
        count if count < 1 << 62 => Ok(count),
        count => Err(format!("{name}: expected a count below 2^62, got {count}")),
    }
}

/// An element of a running statistic that no batches can give.
struct WrongStatistic {
    /// Path and index.
    at: String,
    expected: &'static str,
    got: String,
}

impl std::fmt::Display for WrongStatistic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}, got {}", self.at, self.expected, self.got)
    }
}

/// Returns the first element of a running statistic that is not finite, or a variance below 0, and not frozen.
/// Frozen elements have any bits.
fn wrong_statistic(parameter: &ParameterSpec, bits: &[u32], mask: &Mask) -> Option<WrongStatistic> {
    if parameter.kind != ParameterKind::Statistic {
        return None;
    }
    let variance = parameter.path.ends_with(".running_var");
    let values = bits.iter().map(|&bits| f32::from_bits(bits)).enumerate();
    let mut trainable = values.filter(|(index, _)| !mask.is_frozen(*index));
    let (index, value) = trainable.find(|(_, x)| !x.is_finite() || variance && *x < 0.0)?;
    Some(WrongStatistic {
        at: format!("{}[{index}]", parameter.path),
        expected: if variance { "a finite variance of 0 or more" } else { "a finite mean" },
        got: value.to_string(),
    })
}

/// Name of the note with the steps that the bias correction counts.
const BIAS_CORRECTION: &str = "bias_correction";

/// Describes an optimizer as text, to check that a checkpoint matches. The learning rate is omitted, because
/// it may change at any step; it and the steps that the bias correction counts are stored separately.
fn describe(optimizer: &Optimizer) -> String {
    without(&optimizer.describe(), &["learning-rate=", "bias-correction="])
}

/// Removes the words of `text` that begin with one of `prefixes`.
fn without(text: &str, prefixes: &[&str]) -> String {
    let keep = |word: &&str| !prefixes.iter().any(|prefix| word.starts_with(prefix));
    text.split(' ').filter(keep).collect::<Vec<_>>().join(" ")
}

/// Removes from a description what [`Trainer::load_keeping_rates`] does not compare.
fn without_rates(text: &str) -> String {
    without(text, &["weight-decay=", "schedule="])
}
