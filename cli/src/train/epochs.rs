//! Epoch after epoch, and what is said of them.

use super::Failure;
use super::flags::Flags;
use super::resume::{Position, notes};
use super::table::Table;
use crate::as_usage;
use crate::mask_args::MaskSchedules;
use crate::output::Output;
use frazil::trainer::{Evaluation, FreezeReport, Metrics};
use frazil::{Batch, Dataset, Error, Gpu, Trainer};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run under way.
pub struct Run<'a> {
    pub plan: &'a RunPlan,
    pub output: Output,
    pub gpu: &'a Gpu,
    pub begun: Instant,
}

/// What a run does, and where it keeps it.
pub struct RunPlan {
    /// Passes over the training data, those before a resumption too.
    pub epochs: u64,
    /// Examples in a step.
    pub batch: usize,
    /// Batches of one update.
    pub accumulate: usize,
    /// Of the order of examples.
    pub seed: u64,
    /// Epochs between two files; only the last is written where there is none.
    pub save_every: Option<u64>,
    /// Whether what the frozen layers give is computed once.
    pub cache_prefix: bool,
    /// Masks that change during training.
    pub schedules: MaskSchedules,
    /// Folder for the files.
    pub out: PathBuf,
    /// The flags that made it, for a resumption.
    pub flags: Flags,
}

/// One line of metrics.csv.
struct Epoch {
    number: u64,
    train: Metrics,
    test: Evaluation,
    samples_per_s: f64,
}

impl Run<'_> {
    pub fn announce(&self, trainer: &Trainer, train: &Dataset, test: &Dataset) -> Result<(), Failure> {
        let report = self.gpu.report();
        let software = if report.software { ", a software adapter" } else { "" };
        self.output
            .text(format!("adapter: {} ({}{software}), {}", report.name, report.backend, report.driver))?;
        let parameters: usize = trainer.model().parameters().iter().map(|p| p.shape.elements()).sum();
        let frozen = trainer.frozen_count();
        self.output.text(format!(
            "{parameters} parameters, {frozen} frozen; {} examples to train, {} to test; {}, {} epochs of batches of {}",
            train.len(),
            test.len(),
            trainer.optimizer().name(),
            self.plan.epochs,
            self.plan.batch
        ))?;
        Ok(())
    }

    /// Trains from `start` on; `initial` are the weights at the very beginning.
    pub fn train(
        &self,
        trainer: &mut Trainer,
        (train, test): (&Dataset, &Dataset),
        start: Position,
        initial: &[Vec<f32>],
    ) -> Result<(), Failure> {
        let plan = self.plan;
        std::fs::create_dir_all(&plan.out).map_err(|source| Error::Io { path: plan.out.clone(), source })?;
        let weights = plan.out.join("weights.safetensors");
        let mut table = Table::open(plan.out.join("metrics.csv"), start.epoch)?;
        let left = plan.epochs.saturating_sub(start.epoch);
        let batches = train.batches(plan.batch, 0)?.len() as u64;
        let bar = progress_bar(left.saturating_mul(batches).saturating_sub(start.batch));
        let features = self.features(trainer, train)?;
        let mut last = None;
        let mut at = start;
        for number in start.epoch + 1..=plan.epochs {
            let epoch = match self.epoch(trainer, (train, features.as_ref(), test), &mut at, &bar) {
                // The last good weights are kept on the device; they are worth a file.
                Err(Failure::Failed(error @ Error::NonFiniteLoss { .. })) => {
                    self.save(trainer, &weights, at)?;
                    return Err(error.into());
                }
                other => other?,
            };
            at = Position { epoch: number, batch: 0 };
            let Epoch { train: m, test: e, samples_per_s, .. } = &epoch;
            // The table first: a resumption cuts rows that are ahead of the file, but cannot invent missing ones.
            table.add(&format!(
                "{number},{},{},{},{},{samples_per_s:.1}",
                m.loss,
                accuracy(m.accuracy),
                e.loss,
                accuracy(e.accuracy)
            ))?;
            bar.suspend(|| self.say(&epoch))?;
            last = Some(epoch.test);
            if plan.save_every.is_some_and(|every| number.is_multiple_of(every)) && number < plan.epochs {
                self.save(trainer, &weights, at)?;
            }
        }
        bar.finish_and_clear();

        let proof = trainer.verify_frozen()?;
        let (test_accuracy, wall_s) =
            (last.as_ref().map_or(0.0, |e| accuracy(e.accuracy)), self.begun.elapsed().as_secs_f64());
        self.save(trainer, &weights, at)?;
        let files = [weights.as_path(), table.path()];
        self.conclude(trainer, &proof, changed(trainer, initial)?, test_accuracy, wall_s, files)?;
        // A test loss that is not a number is no result either.
        let sound = proof.changed() == 0 && last.as_ref().is_some_and(|e| e.loss.is_finite());
        if sound { Ok(()) } else { Err(Failure::Verdict) }
    }

    /// What the frozen layers make of the training data, if asked for.
    fn features(&self, trainer: &mut Trainer, train: &Dataset) -> Result<Option<Dataset>, Failure> {
        let layers = trainer.frozen_prefix();
        if !self.plan.cache_prefix {
            if layers > 0 {
                self.output.text(format!(
                    "the lowest {layers} layers are frozen: --cache-prefix saves their work"
                ))?;
            }
            return Ok(None);
        }
        let features = as_usage(trainer.prefix_features(train).map_err(Failure::from))?;
        let mib = (4 * features.features().len()) as f64 / f64::from(1 << 20);
        self.output.text(format!("what the lowest {layers} layers give is kept: {mib:.1} MiB"))?;
        Ok(Some(features))
    }

    fn save(&self, trainer: &Trainer, path: &Path, at: Position) -> Result<(), Failure> {
        Ok(trainer.save_with_notes(path, &notes(&self.plan.flags, at))?)
    }

    /// The rest of an epoch; `at` counts its batches.
    fn epoch(
        &self,
        trainer: &mut Trainer,
        (train, features, test): (&Dataset, Option<&Dataset>, &Dataset),
        at: &mut Position,
        bar: &ProgressBar,
    ) -> Result<Epoch, Failure> {
        let begun = Instant::now();
        let number = at.epoch + 1;
        let mut seen = 0;
        let skipped = usize::try_from(at.batch).unwrap_or(usize::MAX);
        // The order depends on the number of examples alone.
        let rest = features
            .unwrap_or(train)
            .batches_for_epoch(self.plan.batch, self.plan.seed, number)?
            .skip(skipped);
        for batches in rest.collect::<Vec<_>>().chunks(self.plan.accumulate) {
            at.batch += batches.len() as u64;
            self.plan.schedules.apply(trainer)?;
            match features {
                Some(_) => trainer.step_above_over(batches)?,
                None => trainer.step_over(batches)?,
            }
            seen += batches.iter().map(Batch::rows).sum::<usize>();
            if let Some(m) = trainer.progress() {
                let rate = seen as f64 / begun.elapsed().as_secs_f64();
                bar.set_message(format!(
                    "loss {:.4} accuracy {:.4} {rate:.0} samples/s",
                    m.loss,
                    accuracy(m.accuracy)
                ));
            }
            bar.inc(batches.len() as u64);
        }
        let metrics = trainer.metrics()?;
        let samples_per_s = seen as f64 / begun.elapsed().as_secs_f64();
        Ok(Epoch { number, train: metrics, test: trainer.evaluate(test)?, samples_per_s })
    }

    fn say(&self, epoch: &Epoch) -> frazil::Result<()> {
        let Epoch { number, train, test, samples_per_s } = epoch;
        self.output.text(format!(
            "epoch {number:>3}  train loss {:.4}  test loss {:.4}  test accuracy {:.4}  {samples_per_s:>7.0} samples/s",
            train.loss, test.loss, accuracy(test.accuracy)
        ))?;
        self.output.json(&json!({
            "epoch": number,
            "train_loss": train.loss,
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "samples_per_s": samples_per_s,
        }))
    }

    fn conclude(
        &self,
        trainer: &Trainer,
        proof: &FreezeReport,
        (changed, trainable): (usize, usize),
        accuracy: f64,
        wall_s: f64,
        files: [&Path; 2],
    ) -> Result<(), Failure> {
        let digest = trainer.digest()?;
        self.output
            .text(format!("\ntest accuracy {accuracy:.4} after {} steps, {wall_s:.1} s", trainer.steps()))?;
        self.output.text("frozen elements, compared on the device with their bits when they were frozen:")?;
        self.output.text(proof)?;
        self.output.text(format!("{changed} of {trainable} trainable elements changed"))?;
        self.output.text(format!("digest {digest:016x}, of frozen elements {:016x}", proof.digest))?;
        self.output.text(format!("wrote {} and {}", files[0].display(), files[1].display()))?;
        self.output.json(&json!({
            "done": true,
            "test_accuracy": accuracy,
            "frozen_total": proof.frozen(),
            "frozen_changed": proof.changed(),
            "trainable_total": trainable,
            "trainable_changed": changed,
            "digest": format!("{digest:016x}"),
            "frozen_digest": format!("{:016x}", proof.digest),
            "adapter": self.gpu.report().name,
            "backend": self.gpu.report().backend.to_string(),
            "software_adapter": self.gpu.report().software,
            "steps": trainer.steps(),
            "wall_s": wall_s,
        }))?;
        Ok(())
    }
}

/// The losses of this command all have one.
fn accuracy(share: Option<f64>) -> f64 {
    share.unwrap_or(f64::NAN)
}

fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    // The template is a constant; if it ever did not parse, the default style would do.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} steps {eta:>4} left  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// The values of all parameters, in order.
pub fn parameters(trainer: &Trainer) -> frazil::Result<Vec<Vec<f32>>> {
    trainer.model().parameters().iter().map(|p| trainer.parameter(&p.path)).collect()
}

/// Trainable elements whose bits are not what they were, and trainable elements.
fn changed(trainer: &Trainer, initial: &[Vec<f32>]) -> frazil::Result<(usize, usize)> {
    let (mut changed, mut trainable) = (0, 0);
    for ((parameter, before), now) in
        trainer.model().parameters().iter().zip(initial).zip(parameters(trainer)?)
    {
        let mask = trainer.mask(&parameter.path)?;
        for (index, (before, now)) in before.iter().zip(&now).enumerate() {
            if !mask.is_frozen(index) {
                trainable += 1;
                changed += usize::from(before.to_bits() != now.to_bits());
            }
        }
    }
    Ok((changed, trainable))
}
