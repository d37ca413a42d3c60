//! Steps with a loss that the host computes.

use super::Trainer;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::loss::Loss;

impl Trainer {
    /// Trains one step with a loss that `loss` computes on the host, for a trainer with [`Loss::Custom`]: forward on the
    /// device, `loss`, backward and masked update on the device. Returns the loss, which [`Trainer::metrics`] counts, too.
    ///
    /// `loss` gets the outputs of the batch, `[rows, ..output]` row-major, and zeros of the same shape. It replaces
    /// these by the gradient of the loss with respect to the outputs, and returns the loss. Take the mean over the
    /// examples for both, so that the learning rate does not depend on the size of the batch.
    ///
    /// The labels and targets of the batch are not used. The forward pass runs once; the outputs are read and the
    /// gradient is written in between, so that the device waits for the host twice in each step: where steps are short,
    /// a loss on the device is faster, and [`low_level`](crate::low_level) builds others.
    ///
    /// ```
    /// use frazil::{Digits, FreezeRule, Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
    ///
    /// let gpu = Gpu::new(GpuOptions::default())?;
    /// let (model, options) = (Model::digits()?, TrainerOptions::batch(64));
    /// let mut trainer = Trainer::new(&gpu, model, Loss::Custom, Sgd::new(0.1), options)?;
    /// trainer.freeze("conv1.kernel", FreezeRule::random(0.5))?;
    /// let batch = Digits::train()?.in_order(64)?.next().unwrap();
    /// // Mean over the examples of the squared logits of wrong classes and of the distance of the right one from 1.
    /// let loss = trainer.step_with(&batch, |outputs, gradient| {
    ///     let rows = batch.labels.len() as f32;
    ///     let mut sum = 0.0;
    ///     for (i, (output, gradient)) in outputs.iter().zip(gradient).enumerate() {
    ///         let wanted = if batch.labels[i / 10] as usize == i % 10 { 1.0 } else { 0.0 };
    ///         sum += (output - wanted).powi(2);
    ///         *gradient = 2.0 * (output - wanted) / rows;
    ///     }
    ///     Ok(sum / rows)
    /// })?;
    /// assert!(loss.is_finite());
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Trainer::step`], but for labels; those of `loss`; [`Error::InvalidArgument`] for another loss than
    /// [`Loss::Custom`], and if loss or gradient are not finite. In all these cases nothing is changed.
    pub fn step_with(
        &mut self,
        batch: &Batch,
        loss: impl FnOnce(&[f32], &mut [f32]) -> Result<f32>,
    ) -> Result<f32> {
        let at = "Trainer::step_with";
        self.check_finite()?;
        let values = &self.training.values;
        let (&Loss::Custom, Some(output_gradient)) = (&self.loss, values.output_gradient) else {
            return Err(Error::argument(at, "a trainer with Loss::Custom", format!("{:?}", self.loss)));
        };
        self.validate_features(at, batch, self.model.example_shape())?;
        self.check_statistics(batch)?;
        self.optimizer.check_step(self.step)?;
        let plan = &self.training.plan;
        let elements = batch.rows() * self.model.output().iter().product::<usize>();
        let mut computed = 0.0;
        plan.write_f32(values.input, &batch.features)?;
        plan.run_in_two(self.scalars(batch), &[values.losses, output_gradient], || {
            let outputs = plan.read_f32(values.logits)?;
            let mut gradient = vec![0.0; elements];
            computed = loss(&outputs[..elements], &mut gradient)?;
            if !computed.is_finite() {
                return Err(Error::argument(at, "a finite loss", computed));
            }
            if let Some(index) = gradient.iter().position(|g| !g.is_finite()) {
                let place = format!("{at}: gradient {index}");
                return Err(Error::argument(place, "a finite number", gradient[index]));
            }
            plan.write_f32(values.losses, &vec![computed; batch.rows()])?;
            plan.write_f32(output_gradient, &gradient)
        })?;
        self.draws += 1;
        self.count_step()?;
        Ok(computed)
    }
}
