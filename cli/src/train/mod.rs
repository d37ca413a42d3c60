//! `frazil train`: trains a network with frozen weights and verifies that no frozen weight changed.

mod folder;
mod resume;
mod run;
mod source;

pub use resume::Flags;
pub use source::Source;

use super::interrupt::Interrupt;
use super::mask_args::MaskArgs;
use super::optimizer_args::OptimizerArgs;
use super::output::{Output, message};
use super::{DeviceArgs, Failure, at_least_one, os_text, usage};
use clap::Args;
use folder::{Folder, Table};
use frazil::checkpoint::Checkpoint;
use frazil::{Dataset, Error, Gpu, Loss, Trainer, TrainerOptions};
use resume::{Position, Record, Resumed};
use run::{Run, RunOptions, parameters};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
#[command(next_help_heading = "Run")]
pub struct TrainArgs {
    /// Data set: digits (embedded), idx:DIR (files of the MNIST family; idx:DIR/NAME for files that begin with
    /// a name, such as emnist-letters) or cifar10:DIR (binary version of CIFAR-10).
    #[arg(long, value_name = "SET", default_value = "digits", value_parser = os_text::parser())]
    data: String,
    /// Model: digits, lenet28, cifar, resnet20, resnet18, resnet34, resnet50, vgg11, vgg11_bn, vgg16, vgg16_bn,
    /// mobilenet-small, mobilenet_v2 or efficientnet_b0, for the images and classes of the data set [default: by data set digits, lenet28
    /// or cifar].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Number of epochs, including those before a resume.
    #[arg(long, default_value_t = 20)]
    epochs: u64,
    /// Batch size.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Seed of the initial weights, of random masks and of the order of examples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Output folder for weights.safetensors and metrics.csv [default: runs/digits, runs/idx or runs/cifar10;
    /// with --resume the folder of that file].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the results of another run in the output folder.
    #[arg(long)]
    overwrite: bool,
    /// Resume from this checkpoint with the flags stored in it, up to --epochs. A data set that has moved is
    /// given by --data.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// With --resume, let --lr, --weight-decay, --schedule and --mask-schedule replace the stored values.
    #[arg(long = "override", requires = "resume")]
    override_flags: bool,
    /// Save weights.safetensors every EPOCHS epochs and at the end [default: at the end].
    #[arg(long, value_name = "EPOCHS")]
    save_every: Option<u64>,
    /// Compute the outputs of entirely frozen lowest layers once, keep them in memory and train the layers
    /// above on them. Results are the same to the bit.
    #[arg(long)]
    cache_prefix: bool,
    /// Print JSON lines: an object for each epoch, then a summary.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    masks: MaskArgs,
    #[command(flatten)]
    optimizer: OptimizerArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl TrainArgs {
    /// The defaults that depend on other flags, by flag.
    fn implied(&self) -> Vec<(&'static str, String)> {
        let mut all = self.optimizer.implied();
        all.extend(Source::parse(&self.data).map(|source| ("model", source.model().to_owned())));
        all
    }
}

/// Trains. `given` are the flags of the command line, without defaults.
pub fn run(args: &TrainArgs, given: Flags, interrupt: &Interrupt) -> Result<(), Failure> {
    let Some(file) = &args.resume else {
        return train(args, given, None, interrupt);
    };
    let checkpoint = Checkpoint::read(file)?;
    let resumed = resume::merge(&given, &checkpoint, file)?;
    let from = Start { file, checkpoint: &checkpoint, resumed: &resumed };
    train(&resumed.args, resumed.flags.clone(), Some(from), interrupt)
}

/// The checkpoint that a run starts from.
struct Start<'a> {
    file: &'a Path,
    checkpoint: &'a Checkpoint,
    resumed: &'a Resumed,
}

/// Trains from the beginning, or from the given checkpoint at its position.
fn train(args: &TrainArgs, flags: Flags, from: Option<Start>, interrupt: &Interrupt) -> Result<(), Failure> {
    let optimizer = usage(args.optimizer.optimizer())?;
    let freezes = usage(args.masks.freezes(args.seed))?;
    let schedules = usage(args.masks.schedules())?;
    usage(at_least_one("--batch", args.batch as u64))?;
    usage(at_least_one("--epochs", args.epochs))?;
    usage(at_least_one("--save-every", args.save_every.unwrap_or(1)))?;
    let start = from.as_ref().map_or(Position::default(), |from| from.resumed.at);
    if start.epoch >= args.epochs {
        return usage(Err(Error::InvalidArgument {
            at: "--epochs".to_owned(),
            expected: format!("more than the {} epochs of the checkpoint", start.epoch),
            got: args.epochs.to_string(),
        }));
    }
    let source = usage(Source::parse(&args.data))?;
    let model = args.model.as_deref().unwrap_or(source.model());
    usage(source::check_model(model))?;
    let out = match (&args.out, &from) {
        (Some(out), _) => out.clone(),
        (None, Some(from)) => folder_of(from.file),
        (None, None) => Path::new("runs").join(source.name()),
    };
    let (train, test) = load_data(&source, &args.data, from.as_ref())?;
    let model = usage(args.masks.model(usage(source::model_for(model, &train))?))?;
    let begun = Instant::now();
    let gpu = Gpu::new(args.device.options())?;
    let options =
        TrainerOptions::batch(args.batch).seed(args.seed).accumulate(args.optimizer.accumulate() > 1);
    let report = gpu.report();
    let adapter = format!("{} {} {}", report.name, report.backend, report.driver);
    let mut record = Record::new(flags, digest(&train, &test), &adapter)?;
    let mut trainer = Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, optimizer, options)?;
    let initial = parameters(&trainer)?;
    let folder;
    match &from {
        // A resumed run takes its masks from the checkpoint, because the rules of --freeze may depend on the
        // initial weights.
        Some(from) => {
            folder = Folder::lock(&out)?;
            load(&mut trainer, from)?;
            record.run = from.resumed.run.clone().unwrap_or(record.run);
            record.overrides.clone_from(&from.resumed.overrides);
        }
        None => {
            for (glob, rule) in freezes {
                usage(trainer.freeze(&glob, rule))?;
            }
            folder = Folder::lock(&out)?;
        }
    }
    usage(args.masks.freeze_statistics(&mut trainer))?;
    usage(schedules.check(&mut trainer))?;
    let mut repeats = None;
    if !args.overwrite {
        match &from {
            Some(from) => folder.check_resumed(from.file)?,
            None => repeats = folder.check_new(&record.run, args.epochs)?,
        }
    }
    let rows = repeats.map_or(start.epoch, |(epoch, _)| epoch);
    let mut table = Table::open(folder.metrics(), &record.run, rows, args.overwrite)?;
    let options = RunOptions {
        epochs: args.epochs,
        batch: args.batch,
        accumulate: args.optimizer.accumulate(),
        seed: args.seed,
        save_every: args.save_every,
        cache_prefix: args.cache_prefix,
        schedules,
        folder,
        record,
        repeats: repeats.unwrap_or_default(),
    };
    let run = Run { options: &options, output: Output::tolerant(args.json), gpu: &gpu, begun, interrupt };
    run.announce(&trainer, &train, &test)?;
    run.train(&mut trainer, (&train, &test), start, &initial, &mut table)?;
    Ok(run.output.finish()?)
}

/// The folder that contains a file.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Digest of both data sets.
fn digest(train: &Dataset, test: &Dataset) -> String {
    format!("{:016x}{:016x}", train.digest(), test.digest())
}

/// Loads the data. Those of a resumed run must be equal to those of its checkpoint, wherever they are.
fn load_data(source: &Source, data: &str, from: Option<&Start>) -> Result<(Dataset, Dataset), Failure> {
    let loaded = source.load();
    let Some(Start { file, resumed, .. }) = from else {
        return Ok(loaded?);
    };
    let advice = format!("the data of {}; if they have moved, give their place with --data", file.display());
    let (train, test) = loaded.map_err(|error| Error::Data {
        path: data.into(),
        place: "--data".to_owned(),
        why: format!("expected {advice}: {error}"),
        source: Some(error.into()),
    })?;
    let got = digest(&train, &test);
    match &resumed.data {
        Some(expected) if *expected != got => usage(Err(Error::InvalidArgument {
            at: "--data".to_owned(),
            expected: format!("{advice} (digest {expected})"),
            got: format!("{data} (digest {got})"),
        })),
        _ => Ok((train, test)),
    }
}

/// Loads the checkpoint of a resumed run.
fn load(trainer: &mut Trainer, from: &Start) -> Result<(), Failure> {
    let Start { file, checkpoint, resumed } = from;
    if resumed.overridden {
        trainer.load_keeping_rates(file)?
    } else {
        trainer.load(file)?
    }
    for line in &resumed.overrides {
        message(format_args!("frazil: overridden {line}"));
    }
    // The position was read before the folder was locked. A run that saved in between would combine the
    // weights of one position with another position.
    if Some(trainer.digest()?) == checkpoint.training_digest() {
        return Ok(());
    }
    let why = "another run saved it while it was read; try again".to_owned();
    Err(Error::Checkpoint { path: file.to_path_buf(), why, source: None }.into())
}
