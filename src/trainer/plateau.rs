//! Freezes one part of a model after another when the loss stops falling.

use super::Trainer;
use crate::error::{Error, Result};
use crate::mask::FreezeRule;

/// Freezes the parameters of the next glob in a list whenever a loss has not improved for some observations.
#[derive(Clone, Debug, PartialEq)]
pub struct FreezeOnPlateau {
    globs: Vec<String>,
    next: usize,
    patience: usize,
    min_delta: f64,
    best: f64,
    /// Number of observations since the best loss or the last freeze, whichever is later.
    since: usize,
}

impl FreezeOnPlateau {
    /// Creates the rule. A plateau is a sequence of `patience` observations, none of which is lower than the
    /// best loss by more than `min_delta`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a patience of 0, and for a `min_delta` that is negative or not finite.
    pub fn new(globs: &[&str], patience: usize, min_delta: f64) -> Result<Self> {
        if patience == 0 || !(min_delta >= 0.0 && min_delta.is_finite()) {
            let got = format!("patience {patience}, min_delta {min_delta}");
            return Err(Error::argument("FreezeOnPlateau", "patience above 0, min_delta from 0", got));
        }
        let globs = globs.iter().map(|glob| (*glob).to_owned()).collect();
        Ok(FreezeOnPlateau { globs, next: 0, patience, min_delta, best: f64::INFINITY, since: 0 })
    }

    /// Observes a loss, and returns the glob whose parameters were frozen, if any. A freeze resets the count.
    /// A NaN loss is not an improvement.
    ///
    /// # Errors
    /// As [`Trainer::freeze`]; after an error, the next plateau tries the same glob again.
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
