//! Running statistics have a switch of their own: globs of `freeze` do not reach them.

use super::{ThawPolicy, Trainer};
use crate::error::Result;
use crate::graph::ParameterKind;
use crate::mask::Mask;

impl Trainer {
    /// Holds the running statistics that `glob` matches (`bn1.running_*`) at the values that they have now;
    /// [`Trainer::verify_frozen`] proves their bits, too. Training goes on to normalise by the batch's own statistics.
    ///
    /// # Errors
    /// [`crate::Error::UnknownParameter`] if no running statistic matches: nothing was changed then.
    pub fn freeze_statistics(&mut self, glob: &str) -> Result<()> {
        self.set_statistics(glob, Mask::all)
    }

    /// Lets the running statistics that `glob` matches follow the batches again.
    ///
    /// # Errors
    /// As [`Trainer::freeze_statistics`].
    pub fn thaw_statistics(&mut self, glob: &str) -> Result<()> {
        self.set_statistics(glob, Mask::none)
    }

    fn set_statistics(&mut self, glob: &str, mask: fn(usize) -> Mask) -> Result<()> {
        for id in self.matching_kind(glob, ParameterKind::Statistic)? {
            let parameter = &self.model.parameters()[id.index()];
            let (path, mask) = (parameter.path.clone(), mask(parameter.shape.elements()));
            self.replace_mask(&path, mask, ThawPolicy::KeepState)?;
        }
        Ok(())
    }
}
