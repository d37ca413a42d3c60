//! `frazil train`

mod epochs;
mod flags;
mod resume;
mod source;
mod table;

pub use flags::Flags;

use super::mask_args::MaskArgs;
use super::optimizer_args::OptimizerArgs;
use super::output::Output;
use super::{DeviceArgs, Failure, usage};
use clap::Args;
use epochs::{Run, RunPlan, parameters};
use frazil::checkpoint::Checkpoint;
use frazil::{Error, Gpu, Loss, Trainer, TrainerOptions};
use resume::Position;
use source::Source;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
#[command(next_help_heading = "Run")]
pub struct TrainArgs {
    /// Examples: digits (in the program), idx:DIR (the MNIST family's files) or cifar10:DIR (its binary version).
    #[arg(long, value_name = "SET", default_value = "digits")]
    data: String,
    /// Network: digits, lenet28, cifar, resnet20 or mobilenet-small [default: digits, lenet28 or cifar, by the data].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Passes over the training data, in total.
    #[arg(long, default_value_t = 20)]
    epochs: u64,
    /// Examples in a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Seed of initial weights, random masks and the order of examples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for weights.safetensors and metrics.csv [default: runs/digits, runs/idx or runs/cifar10; the resumed
    /// file's own].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from a weights.safetensors, with the flags that it was made with, up to --epochs in total.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Write weights.safetensors every so many epochs, and not only at the end.
    #[arg(long, value_name = "EPOCHS")]
    save_every: Option<u64>,
    /// Compute what the lowest layers give only once, where they are frozen whole, and keep it in memory: the same results,
    /// sooner.
    #[arg(long)]
    cache_prefix: bool,
    /// One JSON object a line on standard output: one for each epoch, then the whole.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    masks: MaskArgs,
    #[command(flatten)]
    optimizer: OptimizerArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Trains; `given` are the flags of the command line, without defaults.
pub fn run(args: &TrainArgs, given: Flags) -> Result<(), Failure> {
    let Some(file) = &args.resume else {
        return begin(args, given, None);
    };
    let checkpoint = Checkpoint::read(file)?;
    let (args, flags) = resume::merge(&given, &checkpoint, file)?;
    begin(&args, flags, Some((file, Position::read(&checkpoint, file)?)))
}

fn begin(args: &TrainArgs, flags: Flags, from: Option<(&Path, Position)>) -> Result<(), Failure> {
    let optimizer = usage(args.optimizer.optimizer())?;
    let freezes = usage(args.masks.freezes(args.seed))?;
    let schedules = usage(args.masks.schedules())?;
    if args.batch == 0 || args.epochs == 0 || args.save_every == Some(0) {
        return usage(Err(Error::EmptyBatch { at: "--batch, --epochs and --save-every".to_owned() }));
    }
    let start = from.map_or(Position::default(), |(_, start)| start);
    if start.epoch >= args.epochs {
        return usage(Err(Error::InvalidArgument {
            at: "--epochs".to_owned(),
            expected: format!("more than the {} that the file has behind it", start.epoch),
            got: args.epochs.to_string(),
        }));
    }
    let source = usage(Source::parse(&args.data))?;
    let model = usage(source::model(args.model.as_deref().unwrap_or(source.model())))?;
    let out = match (&args.out, from) {
        (Some(out), _) => out.clone(),
        (None, Some((file, _))) => file.parent().unwrap_or(Path::new("")).to_owned(),
        (None, None) => Path::new("runs").join(source.name()),
    };
    let (train, test) = source.load()?;
    usage(source::fits(&model, &train))?;
    let begun = Instant::now();
    let gpu = Gpu::new(args.device.options())?;
    let options =
        TrainerOptions::batch(args.batch).seed(args.seed).accumulate(args.optimizer.accumulate() > 1);
    let mut trainer = Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, optimizer, options)?;
    let initial = parameters(&trainer)?;
    match from {
        // The file has the masks, and the rules may look at weights as they were at the beginning.
        Some((file, _)) => trainer.load(file)?,
        None => {
            for (glob, rule) in freezes {
                usage(trainer.freeze(&glob, rule))?;
            }
        }
    }
    usage(schedules.check(&mut trainer))?;
    let plan = RunPlan {
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
    let run = Run { plan: &plan, output: Output::new(args.json), gpu: &gpu, begun };
    run.announce(&trainer, &train, &test)?;
    run.train(&mut trainer, (&train, &test), start, &initial)
}
