//! Parameters, gradients and state by path.

use super::{GradientPolicy, Trainer};
use crate::error::{Error, Result};
use crate::graph::{ParameterId, ParameterKind};
use crate::mask::Mask;
use wildmatch::WildMatch;

/// Names in a message at most.
const SIMILAR: usize = 5;

impl Trainer {
    /// A parameter's values, row-major. Waits for the device.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn parameter(&self, path: &str) -> Result<Vec<f32>> {
        let bits = self.store.read_weights(self.find(path)?)?;
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }

    /// Sets a parameter's trainable elements; frozen ones keep theirs (see [`Trainer::set_and_freeze`] for those).
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::ShapeMismatch`].
    pub fn set_parameter(&mut self, path: &str, values: &[f32]) -> Result<()> {
        let id = self.find(path)?;
        let mut bits = self.store.read_weights(id)?;
        if values.len() != bits.len() {
            return Err(Error::shape(path, format!("{} elements", bits.len()), values.len()));
        }
        let mask = &self.masks[id.index()];
        for (index, (bits, value)) in bits.iter_mut().zip(values).enumerate() {
            if !mask.is_frozen(index) {
                *bits = value.to_bits();
            }
        }
        self.store.write_weights(id, &bits)
    }

    /// Which elements of a parameter are frozen.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`].
    pub fn mask(&self, path: &str) -> Result<&Mask> {
        Ok(&self.masks[self.find(path)?.index()])
    }

    /// Names of the optimizer's state tensors.
    pub fn state_slots(&self) -> &'static [&'static str] {
        self.store.slots()
    }

    /// A parameter's optimizer state, by its number in [`Trainer::state_slots`].
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::InvalidArgument`] for a number out of range.
    pub fn state(&self, path: &str, slot: usize) -> Result<Vec<f32>> {
        let bits = self.store.read_state(slot, self.find(path)?)?;
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }

    /// Sets the state of a parameter's trainable elements; that of frozen ones stays.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::InvalidArgument`], [`Error::ShapeMismatch`].
    pub fn set_state(&mut self, path: &str, slot: usize, values: &[f32]) -> Result<()> {
        let id = self.find(path)?;
        let mut bits = self.store.read_state(slot, id)?;
        if values.len() != bits.len() {
            return Err(Error::shape(path, format!("{} elements", bits.len()), values.len()));
        }
        let mask = &self.masks[id.index()];
        for (index, (bits, value)) in bits.iter_mut().zip(values).enumerate() {
            if !mask.is_frozen(index) {
                *bits = value.to_bits();
            }
        }
        self.store.write_state(slot, id, &bits)
    }

    /// The last step's gradient of the mean loss in a parameter, before decay; exactly 0 at frozen places, unless the
    /// policy is [`GradientPolicy::Dense`].
    ///
    /// # Errors
    /// [`Error::GradientNotKept`] unless `keep_gradients` is set and a step was made; [`Error::UnknownParameter`].
    pub fn gradient(&self, path: &str) -> Result<Vec<f32>> {
        let id = self.find(path)?;
        if !self.options.keep_gradients || self.step == 0 {
            return Err(Error::GradientNotKept { path: path.to_owned() });
        }
        let mask = &self.masks[id.index()];
        let hide = self.options.gradient_policy == GradientPolicy::Masked;
        let bits = self.store.read_gradient(id)?.into_iter().enumerate();
        Ok(bits.map(|(i, b)| if hide && mask.is_frozen(i) { 0.0 } else { f32::from_bits(b) }).collect())
    }

    /// The parameter of this path.
    pub(super) fn find(&self, path: &str) -> Result<ParameterId> {
        let found = self.model.parameters().iter().position(|p| p.path == path);
        found.map(ParameterId::of).ok_or_else(|| self.unknown(path))
    }

    /// The trained parameters that a glob (`*` any run of characters, `?` any one) matches: at least one.
    pub(super) fn matching(&self, glob: &str) -> Result<Vec<ParameterId>> {
        self.matching_kind(glob, ParameterKind::Trained)
    }

    /// The parameters of one kind that a glob matches: at least one.
    pub(super) fn matching_kind(&self, glob: &str, kind: ParameterKind) -> Result<Vec<ParameterId>> {
        let pattern = WildMatch::new(glob);
        let all = self.model.parameters().iter().enumerate();
        let found: Vec<_> = all
            .filter(|(_, p)| p.kind == kind && pattern.matches(&p.path))
            .map(|(i, _)| ParameterId::of(i))
            .collect();
        if found.is_empty() { Err(self.unknown(glob)) } else { Ok(found) }
    }

    fn unknown(&self, path: &str) -> Error {
        let mut similar: Vec<_> = self.model.parameters().iter().map(|p| p.path.clone()).collect();
        similar.sort_by_key(|name| strsim::levenshtein(name, path));
        similar.truncate(SIMILAR);
        Error::UnknownParameter { path: path.to_owned(), similar }
    }
}
