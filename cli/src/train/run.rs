//! The training loop: epochs, their output, metrics.csv and the final report.

use super::Failure;
use super::resume::{Flags, Position, notes};
use crate::as_usage;
use crate::mask_args::MaskSchedules;
use crate::output::Output;
use frazil::trainer::{Confusion, Evaluation, FreezeReport, Metrics};
use frazil::{Batch, Dataset, Error, Gpu, Trainer};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run in progress.
pub struct Run<'a> {
    pub options: &'a RunOptions,
    pub output: Output,
    pub gpu: &'a Gpu,
    pub begun: Instant,
}

/// Options of a run, from the command line.
pub struct RunOptions {
    /// Number of epochs in total, including those before a resume.
    pub epochs: u64,
    /// Examples in a batch.
    pub batch: usize,
    /// Number of batches for each update.
    pub accumulate: usize,
    /// Seed of the order of examples.
    pub seed: u64,
    /// Number of epochs between two checkpoints; `None`: one checkpoint at the end.
    pub save_every: Option<u64>,
    /// Whether the outputs of the frozen lowest layers are computed once and then kept in memory.
    pub cache_prefix: bool,
    /// Pruning during training.
    pub schedules: MaskSchedules,
    /// Folder of the output files.
    pub out: PathBuf,
    /// Flags of the command line, stored in the checkpoint.
    pub flags: Flags,
}

/// One row of metrics.csv.
struct Epoch {
    number: u64,
    train: Metrics,
    test: Evaluation,
    samples_per_s: f64,
}

impl Run<'_> {
    /// Prints the adapter and the sizes of the model and of the data.
    pub fn announce(&self, trainer: &Trainer, train: &Dataset, test: &Dataset) -> Result<(), Failure> {
        let report = self.gpu.report();
        let software = if report.software { ", a software adapter" } else { "" };
        self.output
            .text(format!("adapter: {} ({}{software}), {}", report.name, report.backend, report.driver))?;
        let parameters: usize = trainer.model().parameters().iter().map(|p| p.shape.elements()).sum();
        let frozen = trainer.frozen_count();
        self.output.text(format!(
            "{parameters} parameters, {frozen} frozen; {} training and {} test examples; {}, {} epochs, batch size {}",
            train.len(),
            test.len(),
            trainer.optimizer().name(),
            self.options.epochs,
            self.options.batch
        ))?;
        Ok(())
    }

    /// Trains from `start` to the last epoch, saves the checkpoint and prints the report. `initial` are the
    /// weights before the first step.
    pub fn train(
        &self,
        trainer: &mut Trainer,
        (train, test): (&Dataset, &Dataset),
        start: Position,
        initial: &[Vec<f32>],
    ) -> Result<(), Failure> {
        let options = self.options;
        std::fs::create_dir_all(&options.out)
            .map_err(|source| Error::Io { path: options.out.clone(), source })?;
        let _lock = lock(&options.out)?;
        let mut table = Table::open(options.out.join("metrics.csv"), start.epoch)?;
        let remaining = options.epochs.saturating_sub(start.epoch);
        let batches = train.batches(options.batch, 0)?.len() as u64;
        let bar = progress_bar(remaining.saturating_mul(batches).saturating_sub(start.batch));
        let features = self.features(trainer, train)?;
        let mut last = None;
        let mut at = start;
        for number in start.epoch + 1..=options.epochs {
            let epoch = match self.epoch(trainer, (train, features.as_ref(), test), &mut at, &bar) {
                // The device still has finite weights, mostly those from before the failed step: save them.
                Err(Failure::Failed(
                    error @ (Error::NonFiniteLoss { .. } | Error::NonFiniteUpdate { .. }),
                )) => {
                    bar.finish_and_clear();
                    self.save_unless_diverged(trainer, &trainer.evaluate(test)?, at)?;
                    return Err(error.into());
                }
                other => other?,
            };
            at = Position { epoch: number, batch: 0 };
            let Epoch { train: m, test: e, samples_per_s, .. } = &epoch;
            // The row is written before the checkpoint: a resume truncates rows later than the checkpoint,
            // but cannot restore missing ones.
            table.add(&format!(
                "{number},{},{},{},{},{samples_per_s:.1}",
                m.loss,
                m.accuracy(),
                e.loss,
                e.accuracy()
            ))?;
            bar.suspend(|| self.print_epoch(&epoch))?;
            if options.save_every.is_some_and(|every| number.is_multiple_of(every)) && number < options.epochs
            {
                bar.suspend(|| self.save_unless_diverged(trainer, &epoch.test, at))?;
            }
            last = Some(epoch.test);
        }
        bar.finish_and_clear();

        let proof = trainer.verify_frozen()?;
        let (test_accuracy, wall_s) =
            (last.as_ref().map_or(f64::NAN, |e| e.accuracy()), self.begun.elapsed().as_secs_f64());
        let weights = match &last {
            Some(test) => self.save_unless_diverged(trainer, test, at)?,
            None => options.out.join(WEIGHTS),
        };
        let files = [weights.as_path(), table.path()];
        self.print_report(trainer, &proof, changed(trainer, initial)?, test_accuracy, wall_s, files)?;
        // A run that diverged has failed, too.
        let success = proof.changed() == 0 && last.as_ref().is_some_and(|e| !diverged(e));
        if success { Ok(()) } else { Err(Failure::Verdict) }
    }

    /// Returns the outputs of the frozen lowest layers for all training examples; `None` without
    /// `--cache-prefix`.
    fn features(&self, trainer: &mut Trainer, train: &Dataset) -> Result<Option<Dataset>, Failure> {
        let layers = trainer.frozen_prefix();
        if !self.options.cache_prefix {
            if layers > 0 {
                self.output.text(format!(
                    "the lowest {layers} layers are frozen: --cache-prefix computes their outputs only once"
                ))?;
            }
            return Ok(None);
        }
        let features = as_usage(trainer.prefix_features(train).map_err(Failure::from))?;
        let mib = (4 * features.features().len()) as f64 / f64::from(1 << 20);
        self.output.text(format!("outputs of the lowest {layers} layers cached: {mib:.1} MiB"))?;
        Ok(Some(features))
    }

    /// Saves a checkpoint, and returns its path: the name of the run's checkpoint, or that of a diverged one,
    /// so that diverged weights never replace good ones. `test` is the evaluation of the weights.
    fn save_unless_diverged(
        &self,
        trainer: &Trainer,
        test: &Evaluation,
        at: Position,
    ) -> Result<PathBuf, Failure> {
        let out = &self.options.out;
        let path = out.join(if diverged(test) { DIVERGED } else { WEIGHTS });
        trainer.save_with_notes(&path, &notes(&self.options.flags, at))?;
        if diverged(test) {
            let good = out.join(WEIGHTS);
            let kept = if good.exists() {
                format!("{} is unchanged", good.display())
            } else {
                "there is no earlier checkpoint, as --save-every writes".to_owned()
            };
            self.output.text(format!("diverged ({test}): wrote {}; {kept}", path.display()))?;
            self.output.json(&json!({ "diverged": path, "kept": good.exists().then_some(good) }))?;
        }
        Ok(path)
    }

    /// Trains the remaining batches of an epoch, then evaluates. `at.batch` counts the batches trained.
    fn epoch(
        &self,
        trainer: &mut Trainer,
        (train, features, test): (&Dataset, Option<&Dataset>, &Dataset),
        at: &mut Position,
        bar: &ProgressBar,
    ) -> Result<Epoch, Failure> {
        let begun = Instant::now();
        let number = at.epoch + 1;
        let mut examples = 0;
        let skipped = usize::try_from(at.batch).unwrap_or(usize::MAX);
        // The order of examples depends only on the seed, the epoch and the number of examples, so cached
        // outputs have the same order as the images.
        let remaining = features
            .unwrap_or(train)
            .batches_for_epoch(self.options.batch, self.options.seed, number)?
            .skip(skipped);
        for batches in remaining.collect::<Vec<_>>().chunks(self.options.accumulate) {
            at.batch += batches.len() as u64;
            self.options.schedules.apply(trainer)?;
            match features {
                Some(_) => trainer.step_above_over(batches)?,
                None => trainer.step_over(batches)?,
            }
            examples += batches.iter().map(Batch::rows).sum::<usize>();
            if let Some(m) = trainer.progress() {
                let rate = examples as f64 / begun.elapsed().as_secs_f64();
                bar.set_message(format!(
                    "loss {:.4} accuracy {:.4} {rate:.0} samples/s",
                    m.loss,
                    m.accuracy()
                ));
            }
            bar.inc(batches.len() as u64);
        }
        let metrics = trainer.metrics()?;
        let samples_per_s = examples as f64 / begun.elapsed().as_secs_f64();
        Ok(Epoch { number, train: metrics, test: trainer.evaluate(test)?, samples_per_s })
    }

    fn print_epoch(&self, epoch: &Epoch) -> frazil::Result<()> {
        let Epoch { number, train, test, samples_per_s } = epoch;
        self.output.text(format!(
            "epoch {number:>3}  train loss {:.4}  test loss {:.4}  test accuracy {:.4}  {samples_per_s:>7.0} samples/s",
            train.loss, test.loss, test.accuracy()
        ))?;
        if let Some(first) = test.first_non_finite {
            self.output.text(format!(
                "           the loss of {} of {} test examples is not finite, the first at index {first}",
                test.non_finite, test.examples
            ))?;
        }
        self.output.json(&json!({
            "epoch": number,
            "train_loss": train.loss,
            "test_loss": test.loss,
            "test_accuracy": test.accuracy(),
            "test_non_finite": test.non_finite,
            "test_first_non_finite": test.first_non_finite,
            "samples_per_s": samples_per_s,
        }))
    }

    fn print_report(
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
        self.output
            .text("frozen elements, compared on the device with their bits at the time of freezing:")?;
        self.output.text(proof)?;
        self.output.text(format!("{changed} of {trainable} trainable elements changed"))?;
        self.output.text(format!("digest {digest:016x}, of frozen elements {:016x}", proof.digest))?;
        self.output.text(format!("wrote {} and {}", files[0].display(), files[1].display()))?;
        self.output.json(&json!({
            "done": true,
            "test_accuracy": accuracy,
            "frozen_total": proof.frozen(),
            "frozen_changed": proof.changed(),
            "moving_statistics": proof.moving_statistics,
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

fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    // The template is constant and valid; otherwise the default style is used.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} steps {eta:>4} left  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// The values of all parameters, in the model's order.
pub fn parameters(trainer: &Trainer) -> frazil::Result<Vec<Vec<f32>>> {
    trainer.model().parameters().iter().map(|p| trainer.parameter(&p.path)).collect()
}

/// Returns the number of trainable elements whose bits differ from `initial`, and the number of all trainable
/// elements.
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

/// Locks a folder of results while a run writes to it.
fn lock(out: &Path) -> frazil::Result<File> {
    let path = out.join(".lock");
    let io = |source| Error::Io { path: path.clone(), source };
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InvalidArgument {
            at: "--out".to_owned(),
            expected: "a folder that no other run writes to; choose another, or wait for that run".to_owned(),
            got: out.display().to_string(),
        }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// File name of the checkpoint of a run, and of one with diverged weights.
const WEIGHTS: &str = "weights.safetensors";
const DIVERGED: &str = "diverged.safetensors";

/// Factor over the cross-entropy of guessing above which a test loss counts as diverged.
const DIVERGED_FACTOR: f64 = 100.0;

/// Whether weights with this evaluation have diverged: the loss is not finite for most examples, or far above
/// that of guessing, which is the logarithm of the number of classes.
fn diverged(test: &Evaluation) -> bool {
    let classes = test.confusion.as_ref().map_or(2, Confusion::classes);
    2 * test.non_finite > test.examples || test.loss > DIVERGED_FACTOR * (classes as f64).ln()
}

const HEAD: &str = "epoch,train_loss,train_accuracy,test_loss,test_accuracy,samples_per_s";

/// metrics.csv, open for appending: one row for each epoch.
struct Table {
    path: PathBuf,
    file: File,
}

impl Table {
    /// Creates a table, or after `epochs` epochs continues an existing one. Rows of later epochs are
    /// truncated: they are from a run that was killed before it wrote its checkpoint.
    fn open(path: PathBuf, epochs: u64) -> frazil::Result<Self> {
        let io = |source| Error::Io { path: path.clone(), source };
        let old = match std::fs::read_to_string(&path) {
            Ok(text) if epochs > 0 => text,
            Err(source) if epochs > 0 && source.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(source));
            }
            _ => String::new(),
        };
        let mut text = format!("{HEAD}\n");
        for line in old.lines().skip(1).filter(|line| is_row(line, epochs)) {
            text.push_str(line);
            text.push('\n');
        }
        // The temporary file has a unique name, because another run may write one at the same time.
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut partial =
            tempfile::Builder::new().make_in(folder, |path| File::create_new(path)).map_err(io)?;
        partial.write_all(text.as_bytes()).and_then(|()| partial.as_file().sync_all()).map_err(io)?;
        partial.persist(&path).map_err(|failed| io(failed.error))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io)?;
        Ok(Table { path, file })
    }

    /// Appends a row with a single write.
    fn add(&mut self, row: &str) -> frazil::Result<()> {
        let written = self.file.write_all(format!("{row}\n").as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a line is a complete row of one of the first `epochs` epochs.
fn is_row(line: &str, epochs: u64) -> bool {
    let number = line.split(',').next().and_then(|first| first.parse::<u64>().ok());
    number.is_some_and(|n| n <= epochs) && line.split(',').count() == HEAD.split(',').count()
}
