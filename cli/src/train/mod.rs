//! `frazil train`: trains a network with frozen weights and verifies that no frozen weight changed.

mod resume;
mod run;
mod source;

pub use resume::Flags;

use super::mask_args::MaskArgs;
use super::optimizer_args::OptimizerArgs;
use super::output::Output;
use super::{DeviceArgs, Failure, at_least_one, os_text, usage};
use clap::Args;
use frazil::checkpoint::Checkpoint;
use frazil::{Error, Gpu, Loss, Trainer, TrainerOptions};
use resume::Position;
use run::{Run, RunOptions, parameters};
use source::Source;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
#[command(next_help_heading = "Run")]
pub struct TrainArgs {
    /// Data set: digits (embedded), idx:DIR (files of the MNIST family; idx:DIR/NAME for files that begin with
    /// a name, such as emnist-letters) or cifar10:DIR (binary version of CIFAR-10).
    #[arg(long, value_name = "SET", default_value = "digits", value_parser = os_text::parser())]
    data: String,
    /// Model: digits, lenet28, cifar, resnet20 or mobilenet-small, for the images and classes of the data set
    /// [default: by data set digits, lenet28 or cifar].
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
    /// Resume from this checkpoint with the flags stored in it, up to --epochs.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
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

/// Trains. `given` are the flags of the command line, without defaults.
pub fn run(args: &TrainArgs, given: Flags) -> Result<(), Failure> {
    let Some(file) = &args.resume else {
        return train(args, given, None);
    };
    let checkpoint = Checkpoint::read(file)?;
    let (args, flags) = resume::merge(&given, &checkpoint, file)?;
    train(&args, flags, Some((file, Position::read(&checkpoint, file)?)))
}

/// Trains from the beginning, or from the given checkpoint at its position.
fn train(args: &TrainArgs, flags: Flags, from: Option<(&Path, Position)>) -> Result<(), Failure> {
    let optimizer = usage(args.optimizer.optimizer())?;
    let freezes = usage(args.masks.freezes(args.seed))?;
    let schedules = usage(args.masks.schedules())?;
    usage(at_least_one("--batch", args.batch as u64))?;
    usage(at_least_one("--epochs", args.epochs))?;
    usage(at_least_one("--save-every", args.save_every.unwrap_or(1)))?;
    let start = from.map_or(Position::default(), |(_, start)| start);
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
    let out = match (&args.out, from) {
        (Some(out), _) => out.clone(),
        (None, Some((file, _))) => file.parent().unwrap_or(Path::new("")).to_owned(),
        (None, None) => Path::new("runs").join(source.name()),
    };
    let (train, test) = source.load()?;
    let model = usage(args.masks.model(usage(source::model_for(model, &train))?))?;
    let begun = Instant::now();
    let gpu = Gpu::new(args.device.options())?;
    let options =
        TrainerOptions::batch(args.batch).seed(args.seed).accumulate(args.optimizer.accumulate() > 1);
    let mut trainer = Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, optimizer, options)?;
    let initial = parameters(&trainer)?;
    match from {
        // A resumed run takes its masks from the checkpoint, because the rules of --freeze may depend on the
        // initial weights.
        Some((file, _)) => trainer.load(file)?,
        None => {
            for (glob, rule) in freezes {
                usage(trainer.freeze(&glob, rule))?;
            }
        }
    }
    usage(args.masks.freeze_statistics(&mut trainer))?;
    usage(schedules.check(&mut trainer))?;
    let options = RunOptions {
        epochs: args.epochs,
        batch: args.batch,
        accumulate: args.optimizer.accumulate(),
        seed: args.seed,
        save_every: args.save_every,
        cache_prefix: args.cache_prefix,
        schedules,
        out,
        flags,
    };
    let run = Run { options: &options, output: Output::new(args.json), gpu: &gpu, begun };
    run.announce(&trainer, &train, &test)?;
    run.train(&mut trainer, (&train, &test), start, &initial)
}
