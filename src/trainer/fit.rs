//! Training over several epochs.

use super::{Evaluation, Metrics, RewindState, Trainer};
use crate::data::Loader;
use crate::error::Result;
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

type LearningRate<'a> = Box<dyn FnMut(u64) -> f64 + 'a>;
type OnEpoch<'a> = Box<dyn FnMut(&mut Trainer, &Epoch) -> Result<ControlFlow<()>> + 'a>;

/// Trains for several epochs: evaluation after each, early stopping, checkpoints, and a learning rate for each epoch.
///
/// ```
/// use frazil::data::Loader;
/// use frazil::trainer::Fit;
/// use frazil::{Digits, FreezeRule, Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
/// use std::ops::ControlFlow;
///
/// let gpu = Gpu::new(GpuOptions::default())?;
/// let options = TrainerOptions::batch(64).seed(7);
/// let mut trainer = Trainer::new(&gpu, Model::digits()?, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options)?;
/// trainer.freeze("conv*.kernel", FreezeRule::random(0.5))?;
///
/// let (train, validation) = Digits::train()?.split(0.2, 7)?;
/// let (train, validation) = (Loader::new(train), Loader::new(validation));
/// let fitted = Fit::epochs(6)
///     .seed(7)
///     .patience(2)
///     .learning_rate(|epoch| 0.1 * 0.9_f64.powi(epoch as i32))
///     .on_epoch(|trainer, epoch| {
///         println!("epoch {}: {:?}", epoch.number, epoch.validation);
///         trainer.verify_frozen()?;
///         Ok(ControlFlow::Continue(()))
///     })
///     .run(&mut trainer, &train, Some(&validation))?;
/// assert_eq!(trainer.evaluate_over(&validation)?.loss, fitted.best_loss);
/// assert_eq!(trainer.verify_frozen()?.changed(), 0);
/// # assert!(fitted.best_loss < 0.5, "{}", fitted.best_loss);
/// # Ok::<(), frazil::Error>(())
/// ```
pub struct Fit<'a> {
    epochs: u64,
    first: u64,
    seed: u64,
    patience: Option<u64>,
    checkpoint: Option<PathBuf>,
    learning_rate: Option<LearningRate<'a>>,
    on_epoch: Option<OnEpoch<'a>>,
}

/// An epoch of [`Fit`].
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// Number of the epoch, from 0.
    pub number: u64,
    /// Loss and accuracy in training, each batch before its update.
    pub train: Metrics,
    /// Evaluation after the epoch; `None` without validation examples.
    pub validation: Option<Evaluation>,
    /// Time that training waited for examples.
    pub waited: Duration,
}

impl Epoch {
    /// The loss of the validation examples; without them, that in training.
    pub fn loss(&self) -> f64 {
        self.validation.as_ref().map_or(self.train.loss, |validation| validation.loss)
    }
}

/// The result of [`Fit::run`].
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// All epochs, in order.
    pub epochs: Vec<Epoch>,
    /// Number of the epoch with the lowest [loss](Epoch::loss); `None` if no loss is finite.
    pub best: Option<u64>,
    /// This loss; infinite for none.
    pub best_loss: f64,
}

impl<'a> Fit<'a> {
    /// Trains up to this number of epochs.
    pub fn epochs(epochs: u64) -> Self {
        let (patience, checkpoint) = (None, None);
        Fit { epochs, first: 0, seed: 0, patience, checkpoint, learning_rate: None, on_epoch: None }
    }

    /// Sets the seed of the order of examples, 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of the first epoch: of those that a loaded checkpoint has had.
    pub fn starting_at(mut self, epoch: u64) -> Self {
        self.first = epoch;
        self
    }

    /// Stops after this number of epochs without a lower [loss](Epoch::loss), and returns to weights, optimizer state
    /// and step of the best epoch, also at the end.
    pub fn patience(mut self, epochs: u64) -> Self {
        self.patience = Some(epochs);
        self
    }

    /// Saves the trainer in this file after each epoch whose [loss](Epoch::loss) is the lowest so far.
    pub fn checkpoint(mut self, file: impl Into<PathBuf>) -> Self {
        self.checkpoint = Some(file.into());
        self
    }

    /// Sets the learning rate before each epoch, from the number of the epoch. The schedule of the optimizer
    /// multiplies it.
    pub fn learning_rate(mut self, rate: impl FnMut(u64) -> f64 + 'a) -> Self {
        self.learning_rate = Some(Box::new(rate));
        self
    }

    /// Calls a function after each epoch; training ends if it breaks or returns an error.
    pub fn on_epoch(
        mut self,
        call: impl FnMut(&mut Trainer, &Epoch) -> Result<ControlFlow<()>> + 'a,
    ) -> Self {
        self.on_epoch = Some(Box::new(call));
        self
    }

    /// Trains in batches of the size of the trainer.
    ///
    /// # Errors
    /// As [`Trainer::step`], [`Trainer::metrics`], [`Trainer::evaluate_over`], [`Trainer::set_learning_rate`] and
    /// [`Trainer::save`], and those of the examples and of the function that is called after an epoch. The epochs
    /// before the error have their effect.
    pub fn run(
        mut self,
        trainer: &mut Trainer,
        train: &Loader,
        validation: Option<&Loader>,
    ) -> Result<Fitted> {
        let mut fitted = Fitted { epochs: Vec::new(), best: None, best_loss: f64::INFINITY };
        let (rows, seed) = (trainer.options.batch, self.seed);
        let of_epoch = |number| train.batches_for_epoch(rows, seed, number);
        let (mut best, mut next) = (None, None);
        for number in self.first..self.epochs {
            if let Some(rate) = &mut self.learning_rate {
                trainer.set_learning_rate(rate(number))?;
            }
            let mut batches = next.take().map_or_else(|| of_epoch(number), Ok)?;
            for batch in batches.by_ref() {
                let batch = batch?;
                if batch.rows() > 0 {
                    trainer.step(&batch)?;
                }
            }
            // Threads read the first batches of the next epoch during the evaluation.
            if number + 1 < self.epochs {
                next = Some(of_epoch(number + 1)?.begun()?);
            }
            let epoch = Epoch {
                number,
                train: trainer.metrics()?,
                validation: validation.map(|data| trainer.evaluate_over(data)).transpose()?,
                waited: batches.waited(),
            };
            let loss = epoch.loss();
            if loss < fitted.best_loss {
                (fitted.best, fitted.best_loss) = (Some(number), loss);
                if self.patience.is_some() {
                    best = Some(trainer.snapshot()?);
                }
                if let Some(file) = &self.checkpoint {
                    trainer.save(file)?;
                }
            }
            let flow = match &mut self.on_epoch {
                Some(call) => call(trainer, &epoch)?,
                None => ControlFlow::Continue(()),
            };
            fitted.epochs.push(epoch);
            let since = number - fitted.best.unwrap_or(self.first);
            if flow.is_break() || self.patience.is_some_and(|patience| since >= patience) {
                break;
            }
        }
        if let Some(snapshot) = best.filter(|_| fitted.best != fitted.epochs.last().map(|epoch| epoch.number))
        {
            trainer.rewind(&snapshot, RewindState::Restore)?;
        }
        Ok(fitted)
    }
}

impl fmt::Debug for Fit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fit")
            .field("epochs", &self.epochs)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
