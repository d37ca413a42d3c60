//! Steps over several batches, and the norm of their gradient.

use super::Trainer;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::graph::Clip;

impl Trainer {
    /// One step over several batches as if they were one: their gradients are averaged over all examples, and one update
    /// follows. [`Trainer::step`] is this with one batch. Layers see each batch by itself, and [`Trainer::metrics`]
    /// counts every example.
    ///
    /// # Errors
    /// As [`Trainer::step`], for every batch before anything is done; [`Error::EmptyBatch`] for none;
    /// [`Error::InvalidArgument`] for more than one without [`super::TrainerOptions::accumulate`].
    pub fn step_over(&mut self, batches: &[Batch]) -> Result<()> {
        self.admit("Trainer::step_over", batches, self.model.example_shape())?;
        self.follow_masks()?;
        self.update_over(batches, false)
    }

    /// Fails unless all batches of one update are of examples of this shape.
    pub(super) fn admit(&self, at: &str, batches: &[Batch], example: &[usize]) -> Result<()> {
        if batches.is_empty() {
            return Err(Error::EmptyBatch { at: at.into() });
        }
        if batches.len() > 1 && !self.options.accumulate {
            let expected = "one batch, or TrainerOptions::accumulate(true)";
            return Err(Error::argument(at, expected, format!("{} batches", batches.len())));
        }
        batches.iter().try_for_each(|batch| self.check(batch, example))
    }

    /// One update, from examples or, if `above`, from what the frozen layers made of them.
    pub(super) fn update_over(&mut self, batches: &[Batch], above: bool) -> Result<()> {
        let total: usize = batches.iter().map(Batch::rows).sum();
        for (number, batch) in batches.iter().enumerate() {
            let mut scalars = self.scalars(batch);
            scalars.share = (batch.rows() as f64 / total as f64) as f32;
            scalars.first = u32::from(number == 0);
            scalars.last = u32::from(number + 1 == batches.len());
            let wired = self.prefix.as_ref().filter(|_| above).map_or(&self.training, |prefix| &prefix.wired);
            wired.run(batch, scalars)?;
            self.draws += 1;
        }
        self.step += 1;
        if self.options.progress_every > 0 {
            self.look()?;
        }
        Ok(())
    }

    /// The norm of the last step's gradient before clipping, over what [`Clip::norm`] goes over. Waits for the device.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the optimizer clips by the norm; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn gradient_norm(&self) -> Result<f32> {
        match self.optimizer.clip_setting() {
            Some(Clip::Norm { .. }) => Ok(self.training.plan.sums()?.gradient_norm),
            other => {
                let got = format!("{other:?}");
                Err(Error::argument("Trainer::gradient_norm", "an optimizer with Clip::norm", got))
            }
        }
    }
}
