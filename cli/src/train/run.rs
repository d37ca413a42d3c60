//! The training loop: epochs, their output, metrics.csv and the final report.

use super::Failure;
use super::folder::{Folder, Table};
use super::resume::{Position, Record};
use crate::data::{Part, Sets, skipped_line};
use crate::interrupt::Interrupt;
use crate::mask_args::MaskSchedules;
use crate::output::{Output, message};
use crate::ranks::Team;
use crate::{at_flag, draw};
use frazil::checkpoint::{Checkpoint, Tensor, printable};
use frazil::data::{LoadedBatches, Loader};
use frazil::low_level::ParameterKind;
use frazil::trainer::{Confusion, Evaluation, FreezeReport, Metrics};
use frazil::{Batch, Error, Gpu, Trainer};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run in progress.
pub struct Run<'a> {
    pub options: &'a RunOptions,
    pub output: Output,
    pub gpu: &'a Gpu,
    pub begun: Instant,
    pub interrupt: &'a Interrupt,
    /// The processes that train together.
    pub team: &'a Team,
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
    /// Number of epochs without a better evaluation after which training ends.
    pub patience: Option<u64>,
    /// Whether the outputs of the frozen lowest layers are computed once and then kept in memory.
    pub cache_prefix: bool,
    /// Pruning during training.
    pub schedules: MaskSchedules,
    /// Folder of the output files.
    pub folder: Folder,
    /// Flags and identity, stored in each checkpoint.
    pub record: Record,
    /// Epoch and batch of the checkpoint of an equal run in the folder; otherwise 0.
    pub repeats: (u64, u64),
    /// Number of steps after which the trainers of all processes are compared.
    pub check_ranks_every: u64,
}

/// One row of metrics.csv.
struct Epoch {
    number: u64,
    train: Metrics,
    /// Evaluation of the examples that are held out.
    test: Evaluation,
    samples_per_s: f64,
    /// The part of the time in which training waited for examples.
    waited: f64,
}

/// The examples of an epoch.
struct Parts<'a> {
    examples: &'a Loader,
    /// Whether these are outputs of the frozen lowest layers.
    cached: bool,
    held: &'a Part,
    held_name: &'static str,
}

impl Run<'_> {
    /// Prints the adapter and the sizes of the model and of the data.
    pub fn announce(&self, trainer: &Trainer, sets: &Sets, notes: &[String]) -> Result<(), Failure> {
        let report = self.gpu.report();
        let software = if report.software { ", a software adapter" } else { "" };
        self.output
            .text(format!("adapter: {} ({}{software}), {}", report.name, report.backend, report.driver))?;
        let parameters: usize = trainer.model().parameters().iter().map(|p| p.shape.elements()).sum();
        let frozen = trainer.frozen_count();
        for note in notes {
            self.output.text(printable(note))?;
            self.output.json(&json!({ "note": note }))?;
        }
        let mib = trainer.report().bytes() as f64 / f64::from(1 << 20);
        self.output
            .text(format!("{parameters} parameters, {frozen} frozen; {mib:.1} MiB of device memory"))?;
        self.output.text(format!(
            "{} training and {} {} examples; {}, {} epochs, batch size {}",
            sets.train.len(),
            sets.held.len(),
            sets.held_name,
            trainer.optimizer().name(),
            self.options.epochs,
            self.options.batch
        ))?;
        if self.team.count() > 1 {
            let (count, travel) = (self.team.count(), 4 * (parameters - frozen));
            self.output.text(format!(
                "{count} processes; in each step, gradients of {} trainable elements travel, {travel} of {} bytes",
                parameters - frozen,
                4 * parameters
            ))?;
            self.output.json(
                &json!({ "processes": count, "gradient_bytes": travel, "parameter_bytes": 4 * parameters }),
            )?;
        }
        let trained = trainer.model().parameters().iter().filter(|p| p.kind == ParameterKind::Trained);
        let mut masks = trained.map(|p| trainer.mask(&p.path));
        if masks.all(|mask| mask.is_ok_and(|mask| mask.frozen_count() == mask.len())) {
            message(
                "warning: all parameters are frozen, so that nothing will train; --freeze '*=none' freezes nothing",
            );
        }
        Ok(())
    }

    /// Trains from `start` to the last epoch, saves the checkpoint and prints the report. `initial` are the
    /// weights before the first step. Before an error is returned, the weights are saved if that is possible.
    pub fn train(
        &self,
        trainer: &mut Trainer,
        sets: &Sets,
        start: Position,
        initial: &[Vec<f32>],
        table: Option<&mut Table>,
    ) -> Result<(), Failure> {
        let folder = &self.options.folder;
        let mut at = start;
        let last = self.epochs(trainer, sets, &mut at, table).and_then(|last| {
            // The other processes have nothing more to do: what follows concerns the files and the report.
            if !self.team.leads() {
                return Ok(last);
            }
            let best = self.restore_best(trainer, &sets.held, &mut at)?;
            Ok(best.unwrap_or(last))
        });
        if let Err(Failure::Failed(error)) = &last
            && at != start
            && self.team.leads()
        {
            self.rescue(trainer, &sets.held, at, error);
        }
        let last = last?;
        if !self.team.leads() {
            return Ok(());
        }
        let proof = trainer.verify_frozen()?;
        let test = sets.test.as_ref().map(|test| trainer.evaluate_over(&test.loader)).transpose()?;
        let wall_s = self.begun.elapsed().as_secs_f64();
        let weights = self.save(trainer, Some(&last), at)?;
        let best = folder.best();
        if self.options.patience.is_some() && best.exists() {
            // The same weights are in the checkpoint of the run now.
            std::fs::remove_file(&best).map_err(|source| Error::Io { path: best.clone(), source })?;
        }
        let files = [weights, folder.metrics()];
        self.print_skipped(sets)?;
        let evaluations = (sets.held_name, &last, test.as_ref());
        self.print_report(trainer, &proof, changed(trainer, initial)?, evaluations, wall_s, &files)?;
        self.draw(trainer, &files[0], initial);
        if proof.changed() > 0 {
            return Err(Failure::Verdict(format!("{} frozen elements changed", proof.changed())));
        }
        // A run that diverged has failed, too.
        if diverged(&last) {
            return Err(Failure::Verdict(format!("training diverged: {last}")));
        }
        Ok(())
    }

    /// Trains from `at` to the last epoch, or until no epoch has a better evaluation, and returns the last evaluation.
    fn epochs(
        &self,
        trainer: &mut Trainer,
        sets: &Sets,
        at: &mut Position,
        mut table: Option<&mut Table>,
    ) -> Result<Evaluation, Failure> {
        let options = self.options;
        let train = &sets.train.loader;
        let remaining = options.epochs.saturating_sub(at.epoch);
        let batches = train.in_order(options.batch)?.len() as u64;
        let bar = progress_bar(remaining.saturating_mul(batches).saturating_sub(at.batch));
        let features = self.features(trainer, train)?;
        self.check_best(trainer, at)?;
        let (mut before, mut hinted, mut decoding) = (None, false, false);
        let mut next = None;
        bar.tick();
        loop {
            let number = at.epoch + 1;
            let examples = features.as_ref().unwrap_or(train);
            let parts =
                Parts { examples, cached: features.is_some(), held: &sets.held, held_name: sets.held_name };
            let Some(epoch) = self.epoch(trainer, &parts, &mut next, at, &bar)? else {
                bar.finish_and_clear();
                self.save(trainer, None, *at)?;
                return Err(Failure::Interrupted(format!(
                    "interrupted in epoch {number}, after {} of {batches} batches; {}",
                    at.batch,
                    self.saved(*at)
                )));
            };
            *at = Position { epoch: number, best: at.best, ..Position::default() };
            let Epoch { train: m, test: e, samples_per_s, .. } = &epoch;
            // The row is written before the checkpoint: a resume removes rows later than the checkpoint, but
            // cannot restore missing ones.
            let (m, e) = ([m.loss, m.accuracy()], [e.loss, e.accuracy()]);
            if let Some(table) = &mut table {
                table.add(number, &format!("{},{},{},{},{samples_per_s:.1}", m[0], m[1], e[0], e[1]))?;
            }
            bar.suspend(|| self.print_epoch(&epoch, sets.held_name))?;
            let losses = [epoch.train.loss, epoch.test.loss];
            if !hinted && stuck(losses, before, guessing(&epoch.test)) {
                hinted = true;
                bar.suspend(|| self.hint(HINT))?;
            }
            if !decoding && epoch.waited > SLOW_DATA {
                decoding = true;
                let share = 100.0 * epoch.waited;
                bar.suspend(|| {
                    self.hint(&format!(
                        "hint: training waited for examples in {share:.0} % of this epoch: reading and decoding them is \
                         slower; smaller image files help"
                    ))
                })?;
            }
            before = Some(losses);
            let stops = self.observe(trainer, &epoch, sets.held_name, at, &bar)?;
            if number >= options.epochs || stops {
                bar.finish_and_clear();
                return Ok(epoch.test);
            }
            if options.save_every.is_some_and(|every| number.is_multiple_of(every)) {
                bar.suspend(|| self.save(trainer, Some(&epoch.test), *at))?;
            }
        }
    }

    fn hint(&self, hint: &str) -> frazil::Result<()> {
        self.output.text(hint)?;
        self.output.json(&json!({ "hint": hint }))
    }

    /// With `--patience`, saves the weights if they are the best so far; returns whether training ends.
    fn observe(
        &self,
        trainer: &Trainer,
        epoch: &Epoch,
        held: &str,
        at: &mut Position,
        bar: &ProgressBar,
    ) -> Result<bool, Failure> {
        let Some(patience) = self.options.patience else { return Ok(false) };
        let (number, loss) = (epoch.number, epoch.test.loss);
        if loss.is_finite() && at.best.is_none_or(|(_, best)| loss < best) {
            at.best = Some((number, loss));
            if !self.team.leads() {
                return Ok(false);
            }
            trainer.save_with_notes(self.options.folder.best(), &self.options.record.notes(*at))?;
            return Ok(false);
        }
        let (best_epoch, best) = at.best.unwrap_or((0, f64::NAN));
        if number - best_epoch < patience {
            return Ok(false);
        }
        bar.suspend(|| {
            self.output.text(format!(
                "stopped: no {held} loss in {patience} epochs is below {best:.4}, that of epoch {best_epoch}"
            ))
        })?;
        self.output.json(&json!({ "stopped": number, "best_epoch": best_epoch, "best_loss": best }))?;
        Ok(true)
    }

    /// Whether the folder has the checkpoint of the best epoch that a position names.
    fn has_best(&self, epoch: u64) -> bool {
        let checkpoint = Checkpoint::read(&self.options.folder.best()).unwrap_or_default();
        let note = |name: &str| checkpoint.notes().get(&format!("note.{name}")).map(String::as_str);
        note("run") == Some(&self.options.record.run) && note("epoch") == Some(&epoch.to_string())
    }

    /// Ensures that the folder has the weights of the best epoch of a resumed run; otherwise forgets it.
    fn check_best(&self, trainer: &Trainer, at: &mut Position) -> frazil::Result<()> {
        let Some((epoch, _)) = at.best.filter(|_| self.options.patience.is_some()) else { return Ok(()) };
        let file = self.options.folder.best();
        if (epoch, 0) == (at.epoch, at.batch) {
            if !self.team.leads() {
                return Ok(());
            }
            return trainer.save_with_notes(file, &self.options.record.notes(*at));
        }
        let missing = self.team.leads() && !self.has_best(epoch);
        if self.team.gather(&[missing.into()])?[0][0] != 0 {
            message(format_args!(
                "warning: {} does not have the weights of epoch {epoch}, the best so far; those of the best later epoch are kept",
                file.display()
            ));
            at.best = None;
        }
        Ok(())
    }

    /// Loads the weights of the best epoch, if that is not the last one, and returns their evaluation.
    fn restore_best(
        &self,
        trainer: &mut Trainer,
        held: &Part,
        at: &mut Position,
    ) -> Result<Option<Evaluation>, Failure> {
        let Some((epoch, loss)) =
            at.best.filter(|(epoch, _)| self.options.patience.is_some() && *epoch < at.epoch)
        else {
            return Ok(None);
        };
        if !self.has_best(epoch) {
            return Ok(None);
        }
        trainer.load_keeping_rates(self.options.folder.best())?;
        *at = Position { epoch, best: at.best, ..Position::default() };
        self.output.text(format!("kept the weights of epoch {epoch}, whose loss is {loss:.4}"))?;
        Ok(Some(trainer.evaluate_over(&held.loader)?))
    }

    fn print_skipped(&self, sets: &Sets) -> frazil::Result<()> {
        let parts = [Some(&sets.train), Some(&sets.held), sets.test.as_ref()];
        let skipped: Vec<_> = parts.into_iter().flatten().flat_map(Part::skipped).collect();
        let Some(line) = skipped_line(&skipped) else { return Ok(()) };
        self.output.text(printable(&line))?;
        self.output.json(&json!({ "skipped": skipped.len(), "first": skipped[0].display().to_string() }))
    }

    /// Saves the weights before a failed run ends, if the device still has them.
    fn rescue(&self, trainer: &Trainer, held: &Part, at: Position, error: &Error) {
        let hopeless =
            matches!(error, Error::DeviceLost { .. } | Error::Timeout { .. } | Error::FrozenChanged { .. });
        if hopeless {
            return;
        }
        // After a loss or an update that is not finite, the device has finite weights, mostly those from before
        // that step; they may have diverged.
        let divergence = matches!(error, Error::NonFiniteLoss { .. } | Error::NonFiniteUpdate { .. });
        let test = if divergence { trainer.evaluate_over(&held.loader).ok() } else { None };
        match self.save(trainer, test.as_ref(), at) {
            Ok(_) if test.as_ref().is_some_and(diverged) => {
                let good = self.options.folder.weights();
                if good.exists() {
                    let good = good.display();
                    message(format_args!(
                        "frazil: continue with: frazil train --resume {good} --override --lr RATE"
                    ));
                } else {
                    message(format_args!(
                        "frazil: the weights diverged before that; begin again with a lower --lr"
                    ));
                }
            }
            Ok(_) => {
                let lower = if divergence { " --override --lr RATE" } else { "" };
                message(format_args!("frazil: {}{lower}", self.saved(at)));
            }
            Err(failure) => message(format_args!("frazil: weights not saved: {}", failure.message())),
        }
    }

    /// Says what [`Run::save`] did at this position.
    fn saved(&self, at: Position) -> String {
        let file = self.options.folder.weights();
        if (at.epoch, at.batch) < self.options.repeats {
            return format!("{} still has the results of the equal run that was repeated", file.display());
        }
        format!("saved; continue with: frazil train --resume {}", file.display())
    }

    /// Returns the outputs of the frozen lowest layers for all training examples; `None` without
    /// `--cache-prefix`.
    fn features(&self, trainer: &mut Trainer, train: &Loader) -> Result<Option<Loader>, Failure> {
        let layers = trainer.frozen_prefix();
        if !self.options.cache_prefix {
            if layers > 0 {
                self.output.text(format!(
                    "the lowest {layers} layers are frozen: --cache-prefix computes their outputs only once"
                ))?;
            }
            return Ok(None);
        }
        let features =
            trainer.prefix_features_over(train).map_err(|error| at_flag("--cache-prefix", error))?;
        let mib = (4 * features.features().len()) as f64 / f64::from(1 << 20);
        self.output.text(format!("outputs of the lowest {layers} layers cached: {mib:.1} MiB"))?;
        Ok(Some(Loader::new(features)))
    }

    /// Saves a checkpoint, unless that of a run that is repeated is further, and returns its path: the name of
    /// the run's checkpoint, or that of a diverged one, so that diverged weights never replace good ones. `test`
    /// is the evaluation of the weights, if there is one.
    fn save(&self, trainer: &Trainer, test: Option<&Evaluation>, at: Position) -> Result<PathBuf, Failure> {
        let folder = &self.options.folder;
        let good = folder.weights();
        if (at.epoch, at.batch) < self.options.repeats || !self.team.leads() {
            return Ok(good);
        }
        let test = test.filter(|test| diverged(test));
        let path = if test.is_some() { folder.diverged() } else { good.clone() };
        trainer.save_with_notes(&path, &self.options.record.notes(at))?;
        if let Some(test) = test {
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

    /// Trains the remaining batches of an epoch, then evaluates; `None` if it is interrupted before. `at`
    /// counts the batches trained, and then has their metrics. `next` are the number of batches of this epoch and those of this process, if
    /// threads read them already, and then those of the next one, which they read during the evaluation.
    fn epoch(
        &self,
        trainer: &mut Trainer,
        parts: &Parts,
        next: &mut Option<(usize, LoadedBatches)>,
        at: &mut Position,
        bar: &ProgressBar,
    ) -> Result<Option<Epoch>, Failure> {
        let Parts { examples, cached, held, held_name } = *parts;
        let begun = Instant::now();
        let number = at.epoch + 1;
        let mut count = 0u64;
        let done = usize::try_from(at.batch).unwrap_or(usize::MAX);
        // The order of examples depends only on the seed, the epoch and the number of examples, so cached
        // outputs have the same order as the images.
        let (rank, ranks, each) = (self.team.rank(), self.team.count(), self.options.accumulate);
        let of_epoch = |number, done| -> frazil::Result<(usize, LoadedBatches)> {
            let batches = examples.batches_for_epoch(self.options.batch, self.options.seed, number)?;
            let batches = batches.starting_at(done);
            Ok((batches.len(), batches.for_rank(rank, ranks, each)?))
        };
        let (mut left, mut remaining) = match next.take() {
            Some(ahead) => ahead,
            None => of_epoch(number, done)?,
        };
        let per_step = ranks * each;
        let mut interrupted = false;
        while left > 0 && !interrupted {
            let taken = left.min(per_step);
            let own = taken.saturating_sub(rank * each).min(each);
            let batches = remaining.by_ref().take(own).collect::<frazil::Result<Vec<_>>>();
            left -= taken;
            // A batch has no rows if all of its images are left out.
            let batches: Vec<_> = batches?.into_iter().filter(|batch| batch.rows() > 0).collect();
            let rows = batches.iter().map(Batch::rows).sum::<usize>();
            let all = self.team.gather(&[rows as u64, self.interrupt.requested().into()])?;
            let rows: u64 = all.iter().map(|words| words[0]).sum();
            // All processes stop after the same step.
            interrupted = all.iter().any(|words| words[1] != 0);
            if rows > 0 {
                let changed = self.options.schedules.apply(trainer)?;
                match self.team.several() {
                    Some(ranks) => {
                        if changed || trainer.steps().is_multiple_of(self.options.check_ranks_every) {
                            trainer.check_ranks(ranks)?;
                        }
                        trainer.step_on(ranks, &batches)?;
                    }
                    None if cached => trainer.step_above_over(&batches)?,
                    None => trainer.step_over(&batches)?,
                }
            }
            at.batch += taken as u64;
            bar.inc(taken as u64);
            count += rows;
            if let Some(m) = trainer.progress() {
                let elapsed = begun.elapsed();
                let rate = count as f64 / elapsed.as_secs_f64();
                let waiting = waiting(remaining.waited().as_secs_f64() / elapsed.as_secs_f64());
                bar.set_message(format!(
                    "loss {:.4} accuracy {:.4} {rate:.0} samples/s{waiting}",
                    m.loss,
                    m.accuracy()
                ));
            }
            interrupted |= self.team.count() == 1 && self.interrupt.requested();
        }
        if number < self.options.epochs && !interrupted {
            let (left, batches) = of_epoch(number + 1, 0)?;
            *next = Some((left, batches.begun()?));
        }
        let metrics = match self.team.several() {
            Some(ranks) => {
                trainer.check_ranks(ranks)?;
                trainer.metrics_on(ranks)?
            }
            None => trainer.metrics()?,
        };
        let metrics = combined(at.partial, metrics);
        let elapsed = begun.elapsed().as_secs_f64();
        at.partial = Some(metrics);
        if interrupted {
            return Ok(None);
        }
        if metrics.examples == 0 {
            return Err(Failure::Failed(Error::Data {
                path: examples.examples().name().into(),
                place: "images".to_owned(),
                why: "expected an image that can be decoded, got none".to_owned(),
                source: None,
            }));
        }
        let (samples_per_s, waited) = (count as f64 / elapsed, remaining.waited().as_secs_f64() / elapsed);
        bar.set_message(format!("evaluates {} {held_name} examples", held.len()));
        let test = match self.team.several() {
            Some(ranks) => trainer.evaluate_on(ranks, &held.loader)?,
            None => trainer.evaluate_over(&held.loader)?,
        };
        Ok(Some(Epoch { number, train: metrics, test, samples_per_s, waited }))
    }

    fn print_epoch(&self, epoch: &Epoch, held: &str) -> frazil::Result<()> {
        let Epoch { number, train, test, samples_per_s, waited } = epoch;
        self.output.text(format!(
            "epoch {number:>3}  train loss {:.4}  {held} loss {:.4}  {held} accuracy {:.4}  {samples_per_s:>7.0} samples/s{}",
            train.loss, test.loss, test.accuracy(), waiting(*waited)
        ))?;
        if let Some(first) = test.first_non_finite {
            self.output.text(format!(
                "           the loss of {} of {} {held} examples is not finite, the first at index {first}",
                test.non_finite, test.examples
            ))?;
        }
        self.output.json(&json!({
            "epoch": number,
            "train_loss": train.loss,
            (format!("{held}_loss")): test.loss,
            (format!("{held}_accuracy")): test.accuracy(),
            (format!("{held}_non_finite")): test.non_finite,
            (format!("{held}_first_non_finite")): test.first_non_finite,
            "samples_per_s": samples_per_s,
            "waited_fraction": waited,
        }))
    }

    /// Draws the kernels and what moved in them beside the weights. The run has succeeded without the picture, so an
    /// error is a message.
    fn draw(&self, trainer: &Trainer, weights: &Path, initial: &[Vec<f32>]) {
        let mut base = Checkpoint::default();
        for (parameter, values) in trainer.model().parameters().iter().zip(initial) {
            let bits = values.iter().map(|value| value.to_bits()).collect();
            base.push(parameter.path.clone(), Tensor::f32_bits(parameter.shape.extents().to_vec(), bits));
        }
        let picture = weights.with_extension("svg");
        match draw::write_run(weights, &base, &picture) {
            Ok(true) => {
                // Output that cannot be printed is reported elsewhere.
                let _ = self.output.text(format!("drew the kernels in {}", picture.display()));
            }
            Ok(false) => {}
            Err(error) => message(format_args!("frazil: no picture of the kernels: {error}")),
        }
    }

    fn print_report(
        &self,
        trainer: &Trainer,
        proof: &FreezeReport,
        (changed, trainable): (usize, usize),
        (held, last, test): (&str, &Evaluation, Option<&Evaluation>),
        wall_s: f64,
        files: &[PathBuf; 2],
    ) -> Result<(), Failure> {
        let digest = trainer.digest()?;
        let accuracy = last.accuracy();
        let after = format!("after {} steps, {wall_s:.1} s", trainer.steps());
        self.output.text(format!("\n{held} accuracy {accuracy:.4} {after}"))?;
        if let Some(test) = test {
            self.output.text(format!("test: {test}"))?;
        }
        self.output
            .text("frozen elements, compared on the device with their bits at the time of freezing:")?;
        self.output.text(proof)?;
        self.output.text(format!("{changed} of {trainable} trainable elements changed"))?;
        self.output.text(format!("digest {digest:016x}, of frozen elements {:016x}", proof.digest))?;
        self.output.text(format!("wrote {} and {}", files[0].display(), files[1].display()))?;
        let mut summary = json!({
            "done": true,
            (format!("{held}_accuracy")): accuracy,
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
            "device_bytes": trainer.report().bytes(),
            "steps": trainer.steps(),
            "wall_s": wall_s,
        });
        if self.team.count() > 1 {
            let sent = self.team.sent();
            self.output.text(format!("rank 0 sent {sent} bytes to {} others", self.team.count() - 1))?;
            summary["processes"] = self.team.count().into();
            summary["bytes_sent"] = sent.into();
        }
        if let Some(test) = test {
            summary["test_accuracy"] = test.accuracy().into();
        }
        Ok(self.output.json(&summary)?)
    }
}

/// Part of the time of an epoch, spent waiting for examples, above which a hint is printed.
const SLOW_DATA: f64 = 0.25;

/// Says that training waits for examples, if it does for a part of the time worth mentioning.
fn waiting(share: f64) -> String {
    if share < 0.05 { String::new() } else { format!("  ({:.0} % waiting for data)", 100.0 * share) }
}

/// Combines the metrics of the batches of an epoch before an interrupt with those after it.
fn combined(before: Option<Metrics>, after: Metrics) -> Metrics {
    let Some(before) = before else { return after };
    let examples = before.examples + after.examples;
    let sum = before.loss * before.examples as f64 + after.loss * after.examples as f64;
    let correct = before.correct.zip(after.correct).map(|(before, after)| before + after);
    Metrics { loss: sum / examples.max(1) as f64, correct, examples }
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

/// Factor over the cross-entropy of guessing above which a test loss counts as diverged.
const DIVERGED_FACTOR: f64 = 100.0;

/// Whether weights with this evaluation have diverged: the loss is not finite for most examples, or far above
/// that of guessing, which is the logarithm of the number of classes.
fn diverged(test: &Evaluation) -> bool {
    2 * test.non_finite > test.examples || test.loss > DIVERGED_FACTOR * guessing(test)
}

/// The cross-entropy of a uniform guess: the logarithm of the number of classes.
fn guessing(test: &Evaluation) -> f64 {
    (test.confusion.as_ref().map_or(2, Confusion::classes) as f64).ln()
}

/// Hint for a loss that has not moved in an epoch.
const HINT: &str = "hint: the loss has not moved in this epoch and is no better than that of guessing; try another --lr or \
                    --optimizer, or freeze fewer weights";

/// Whether the losses in training and on the test set are at least nearly that of guessing, and within 0.5 % of
/// their values in the epoch before; in the first epoch, of guessing.
fn stuck(losses: [f64; 2], before: Option<[f64; 2]>, guessing: f64) -> bool {
    let before = before.unwrap_or([guessing; 2]);
    let stays = |(now, before): (f64, f64)| now > 0.9 * guessing && (now - before).abs() < 0.005 * guessing;
    losses.into_iter().zip(before).all(stays)
}
