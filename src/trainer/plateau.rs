//! Freezes one part of a model after another, when the loss stops falling.

use super::Trainer;
use crate::error::{Error, Result};
use crate::mask::FreezeRule;

/// Freezes the next of a list of globs, bottom to top, when a loss has not fallen for some observations.
#[derive(Clone, Debug, PartialEq)]
pub struct FreezeOnPlateau {
    globs: Vec<String>,
    next: usize,
    patience: usize,
    min_delta: f64,
    best: f64,
    since: usize,
}

impl FreezeOnPlateau {
    /// `patience` observations in a row that are not lower than the best by more than `min_delta` make a plateau.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a patience of 0 and a `min_delta` that is negative or no number.
    pub fn new(globs: &[&str], patience: usize, min_delta: f64) -> Result<Self> {
        if patience == 0 || !(min_delta >= 0.0 && min_delta.is_finite()) {
            let got = format!("patience {patience}, min_delta {min_delta}");
            return Err(Error::argument("FreezeOnPlateau", "patience above 0, min_delta from 0", got));
        }
        let globs = globs.iter().map(|glob| (*glob).to_owned()).collect();
        Ok(FreezeOnPlateau { globs, next: 0, patience, min_delta, best: f64::INFINITY, since: 0 })
    }

    /// Takes a loss into account; gives the glob whose parameters it has frozen, if any. After a freeze the count
    /// begins anew. A loss that is NaN is no improvement.
    ///
    /// # Errors
    /// As [`Trainer::freeze`]; the same glob is tried again at the next plateau then.
    pub fn observe(&mut self, trainer: &mut Trainer, loss: f64) -> Result<Option<String>> {
        if loss < self.best - self.min_delta {
            (self.best, self.since) = (loss, 0);
            return Ok(None);
        }
        self.since += 1;
        if self.since < self.patience {
            return Ok(None);
        }
        self.since = 0;
        let Some(glob) = self.globs.get(self.next) else { return Ok(None) };
        trainer.freeze(glob, FreezeRule::all())?;
        self.next += 1;
        Ok(Some(glob.clone()))
    }
}
