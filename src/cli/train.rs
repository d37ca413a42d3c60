//! `frazil train`

use super::output::Output;
use super::{DeviceArgs, Failure, usage};
use clap::{Args, ValueEnum};
use frazil::trainer::{Evaluation, FreezeReport, Metrics};
use frazil::{
    Adam, AdamW, Dataset, Digits, Error, FreezeRule, Gpu, Loss, Model, Optimizer, Sgd, Trainer,
    TrainerOptions,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
pub struct TrainArgs {
    /// Freeze elements: a glob over parameter paths, and all, none or random:FRACTION. May be given several times; any
    /// one replaces the default.
    #[arg(long, value_name = "GLOB=RULE", default_value = "conv*.kernel=random:0.5")]
    freeze: Vec<String>,
    /// The rule of the updates.
    #[arg(long, value_enum, default_value = "sgd")]
    optimizer: Rule,
    /// Learning rate [default: 0.05 for sgd, 0.001 for adam and adamw].
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Momentum, of sgd alone [default: 0.9].
    #[arg(long)]
    momentum: Option<f64>,
    /// Nesterov's look-ahead, of sgd alone.
    #[arg(long)]
    nesterov: bool,
    /// Weight decay: coupled for sgd and adam, decoupled for adamw [default: 0, 0.01 for adamw].
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Passes over the training data.
    #[arg(long, default_value_t = 20)]
    epochs: u64,
    /// Examples in a step.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Seed of initial weights, random masks and the order of examples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for weights.safetensors and metrics.csv.
    #[arg(long, default_value = "runs/digits")]
    out: PathBuf,
    /// One JSON object a line on standard output.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rule {
    Sgd,
    Adam,
    Adamw,
}

impl TrainArgs {
    fn optimizer(&self) -> frazil::Result<Optimizer> {
        let sgd_only = |what: &str| Error::InvalidArgument {
            at: what.to_owned(),
            expected: "--optimizer sgd".to_owned(),
            got: "another optimizer".to_owned(),
        };
        if !matches!(self.optimizer, Rule::Sgd) {
            if self.momentum.is_some() {
                return Err(sgd_only("--momentum"));
            }
            if self.nesterov {
                return Err(sgd_only("--nesterov"));
            }
        }
        let decay = self.weight_decay;
        let optimizer: Optimizer = match self.optimizer {
            Rule::Sgd => Sgd::new(self.lr.unwrap_or(0.05))
                .momentum(self.momentum.unwrap_or(0.9))
                .nesterov(self.nesterov)
                .weight_decay(decay.unwrap_or(0.0))
                .into(),
            Rule::Adam => Adam::new(self.lr.unwrap_or(0.001)).weight_decay(decay.unwrap_or(0.0)).into(),
            Rule::Adamw => AdamW::new(self.lr.unwrap_or(0.001)).weight_decay(decay.unwrap_or(0.01)).into(),
        };
        optimizer.check()?;
        Ok(optimizer)
    }

    fn freezes(&self) -> frazil::Result<Vec<(String, FreezeRule)>> {
        let one = |text: &String| {
            let (glob, rule) = text.split_once('=').ok_or_else(|| Error::InvalidArgument {
                at: "--freeze".to_owned(),
                expected: "GLOB=RULE, such as 'conv*.kernel=random:0.5'".to_owned(),
                got: text.clone(),
            })?;
            Ok((glob.to_owned(), FreezeRule::parse(rule)?.seed(self.seed)))
        };
        self.freeze.iter().map(one).collect()
    }
}

pub fn run(args: &TrainArgs) -> Result<(), Failure> {
    let optimizer = usage(args.optimizer())?;
    let freezes = usage(args.freezes())?;
    if args.batch == 0 || args.epochs == 0 {
        return usage(Err(Error::EmptyBatch { at: "--batch and --epochs".to_owned() }));
    }
    let (train, test) = (Digits::train()?, Digits::test()?);
    let begun = Instant::now();
    let gpu = Gpu::new(args.device.options())?;
    let options = TrainerOptions::batch(args.batch).seed(args.seed);
    let mut trainer = Trainer::new(&gpu, Model::digits()?, Loss::SoftmaxCrossEntropy, optimizer, options)?;
    for (glob, rule) in freezes {
        usage(trainer.freeze(&glob, rule))?;
    }
    let run = Run { args, output: Output::new(args.json), gpu: &gpu, begun };
    run.announce(&trainer, &train, &test)?;
    run.train(&mut trainer, &train, &test)
}

struct Run<'a> {
    args: &'a TrainArgs,
    output: Output,
    gpu: &'a Gpu,
    begun: Instant,
}

/// One line of metrics.csv.
struct Epoch {
    number: u64,
    train: Metrics,
    test: Evaluation,
    samples_per_s: f64,
}

impl Run<'_> {
    fn announce(&self, trainer: &Trainer, train: &Dataset, test: &Dataset) -> Result<(), Failure> {
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
            self.args.epochs,
            self.args.batch
        ))?;
        Ok(())
    }

    fn train(&self, trainer: &mut Trainer, train: &Dataset, test: &Dataset) -> Result<(), Failure> {
        let initial = parameters(trainer)?;
        let out = &self.args.out;
        std::fs::create_dir_all(out).map_err(|source| Error::Io { path: out.clone(), source })?;
        let (weights, csv) = (out.join("weights.safetensors"), out.join("metrics.csv"));
        let failed = |source| Error::Io { path: csv.clone(), source };
        let mut table = File::create(&csv).map_err(failed)?;
        writeln!(table, "epoch,train_loss,train_accuracy,test_loss,test_accuracy,samples_per_s")
            .map_err(failed)?;

        let bar =
            progress_bar(self.args.epochs.saturating_mul(train.batches(self.args.batch, 0)?.len() as u64));
        let mut last = None;
        for number in 1..=self.args.epochs {
            let epoch = match self.epoch(trainer, train, test, number, &bar) {
                // The last good weights are kept on the device; they are worth a file.
                Err(Failure::Failed(error @ Error::NonFiniteLoss { .. })) => {
                    trainer.save(&weights)?;
                    return Err(error.into());
                }
                other => other?,
            };
            let Epoch { train: m, test: e, samples_per_s, .. } = &epoch;
            writeln!(
                table,
                "{number},{},{},{},{},{samples_per_s:.1}",
                m.loss,
                accuracy(m.accuracy),
                e.loss,
                accuracy(e.accuracy)
            )
            .map_err(failed)?;
            bar.suspend(|| self.say(&epoch))?;
            last = Some(epoch.test);
        }
        bar.finish_and_clear();

        let proof = trainer.verify_frozen()?;
        let (test_accuracy, wall_s) =
            (last.as_ref().map_or(0.0, |e| accuracy(e.accuracy)), self.begun.elapsed().as_secs_f64());
        trainer.save(&weights)?;
        self.conclude(trainer, &proof, changed(trainer, &initial)?, test_accuracy, wall_s, [&weights, &csv])?;
        // A test loss that is not a number is no result either.
        let sound = proof.changed() == 0 && last.as_ref().is_some_and(|e| e.loss.is_finite());
        if sound { Ok(()) } else { Err(Failure::Verdict) }
    }

    fn epoch(
        &self,
        trainer: &mut Trainer,
        train: &Dataset,
        test: &Dataset,
        number: u64,
        bar: &ProgressBar,
    ) -> Result<Epoch, Failure> {
        let begun = Instant::now();
        let mut seen = 0;
        for batch in train.batches_for_epoch(self.args.batch, self.args.seed, number)? {
            trainer.step(&batch)?;
            seen += batch.rows();
            if let Some(m) = trainer.progress() {
                let rate = seen as f64 / begun.elapsed().as_secs_f64();
                let accuracy = accuracy(m.accuracy);
                bar.set_message(format!("loss {:.4} accuracy {accuracy:.4} {rate:.0} samples/s", m.loss));
            }
            bar.inc(1);
        }
        let metrics = trainer.metrics()?;
        let samples_per_s = seen as f64 / begun.elapsed().as_secs_f64();
        Ok(Epoch { number, train: metrics, test: trainer.evaluate(test)?, samples_per_s })
    }

    fn say(&self, epoch: &Epoch) -> frazil::Result<()> {
        let Epoch { number, train, test, samples_per_s } = epoch;
        self.output.text(format!(
            "epoch {number:>3}  train loss {:.4}  test loss {:.4}  test accuracy {:.4}  {samples_per_s:>7.0} samples/s",
            train.loss,
            test.loss,
            accuracy(test.accuracy)
        ))?;
        self.output.json(&json!({
            "epoch": number,
            "train_loss": train.loss,
            "test_loss": test.loss,
            "test_accuracy": accuracy(test.accuracy),
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

/// The bits of all parameters, in order.
fn parameters(trainer: &Trainer) -> frazil::Result<Vec<Vec<f32>>> {
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
