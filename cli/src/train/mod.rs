//! `frazil train`: trains a network with frozen weights and verifies that no frozen weight changed.

mod folder;
mod resume;
mod run;
mod weights;

pub use resume::Flags;

use super::data::{ImageArgs, Reading, Sets, Source, class_names, normalization, parse_size};
use super::interrupt::Interrupt;
use super::mask_args::{DEFAULT_FREEZE, MaskArgs};
use super::optimizer_args::OptimizerArgs;
use super::output::{Output, message};
use super::ranks::Team;
use super::{DeviceArgs, Failure, at_flag, at_least_one, os_text, usage};
use clap::Args;
use folder::{Folder, Table};
use frazil::checkpoint::Checkpoint;
use frazil::data::{Augment, Examples, Normalize};
use frazil::mask::Score;
use frazil::{Batch, Error, Gpu, Loss, Model, Trainer, TrainerOptions};
use resume::{Position, Record, Resumed};
use run::{Run, RunOptions, parameters};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use weights::{Beginning, Opened, WeightsArgs};

#[derive(Args)]
#[command(next_help_heading = "Run")]
pub struct TrainArgs {
    /// Data set: digits (embedded), idx:DIR (files of the MNIST family; idx:DIR/NAME for files that begin with
    /// a name, such as emnist-letters), cifar10:DIR or cifar100:DIR (binary versions), folder:DIR (PNG, JPEG and WebP
    /// images in a subfolder for each class, or in train, val and test with these) or csv:FILE (lines PATH,CLASS).
    #[arg(long, value_name = "SET", default_value = "digits", value_parser = os_text::parser())]
    data: String,
    /// Model: digits, lenet28, cifar, resnet20, resnet18, resnet34, resnet50, vgg11, vgg11_bn, vgg16, vgg16_bn,
    /// mobilenet-small, mobilenet_v2 or efficientnet_b0, for the images and classes of the data set [default: by data set digits, lenet28,
    /// cifar or resnet18; with --weights that of the file, if it names one].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Size of the images, HxW or HxWxC with 1 or 3 channels [default: that of the data set, of image files that of
    /// the model].
    #[arg(long, value_name = "HxW", value_parser = parse_size)]
    size: Option<[usize; 3]>,
    /// Change training images at random: a list of flip, crop and color.
    #[arg(long, value_name = "LIST")]
    augment: Option<Augment>,
    /// Hold out this part of the training examples of each class, and evaluate it after each epoch instead of the test
    /// set [default: 0.2 for image files without a test set].
    #[arg(long, value_name = "FRACTION")]
    validation: Option<f64>,
    /// Stop after N epochs without a lower loss in the evaluation, and keep the weights of the best epoch.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    patience: Option<u64>,
    /// Number of epochs, including those before a resume.
    #[arg(long, default_value_t = 20)]
    epochs: u64,
    /// Batch size.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Seed of the initial weights, of random masks and of the order of examples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Output folder for weights.safetensors and metrics.csv [default: runs/ and the kind of data set; with --resume
    /// the folder of that file].
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
    ranks: RanksArgs,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    masks: MaskArgs,
    #[command(flatten)]
    optimizer: OptimizerArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Options of several processes that train together, as `mpirun -n N frazil train` starts them.
#[derive(Args)]
#[command(next_help_heading = "Several processes (mpirun -n N frazil train)")]
struct RanksArgs {
    /// Multiply the learning rate by the number of processes, as they multiply the examples of a step.
    #[arg(long)]
    scale_lr: bool,
    /// Use another adapter in each process on a machine, in turn; --adapter and --backend restrict them.
    #[arg(long)]
    adapter_per_rank: bool,
    /// Compare masks, weights and optimizer state of all processes every STEPS steps; besides, they are compared at the
    /// start, after changes of masks and at the end of each epoch.
    #[arg(long, value_name = "STEPS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    check_ranks_every: u64,
    /// Stop if a process does not answer for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    rank_timeout: u64,
}

impl TrainArgs {
    /// The defaults that depend on other flags, by flag.
    fn implied(&self) -> Vec<(&'static str, String)> {
        let mut all = self.optimizer.implied();
        if !self.weights.is_given() {
            all.extend(Source::parse(&self.data).map(|source| ("model", source.model().to_owned())));
        }
        all.extend(self.default_freeze().map(|rule| ("freeze", rule.to_owned())));
        all
    }

    /// What `--freeze` is if it is not given.
    fn default_freeze(&self) -> Option<&'static str> {
        (!self.weights.is_given()).then_some(DEFAULT_FREEZE)
    }
}

/// Trains, with other processes if MPI has started several. `given` are the flags of the command line, without defaults.
pub fn run(args: &TrainArgs, given: Flags, interrupt: &Interrupt) -> Result<(), Failure> {
    let team = Team::join(Duration::from_secs(args.ranks.rank_timeout))?;
    let result = run_in(&team, args, given, interrupt);
    interrupt.end();
    team.leave(result)
}

fn run_in(team: &Team, args: &TrainArgs, given: Flags, interrupt: &Interrupt) -> Result<(), Failure> {
    let Some(file) = &args.resume else {
        return train(team, args, given, None, interrupt);
    };
    let checkpoint = Checkpoint::read(file)?;
    let resumed = resume::merge(&given, &checkpoint, file)?;
    let from = Start { file, checkpoint: &checkpoint, resumed: &resumed };
    train(team, &resumed.args, resumed.flags.clone(), Some(from), interrupt)
}

/// The checkpoint that a run starts from.
struct Start<'a> {
    file: &'a Path,
    checkpoint: &'a Checkpoint,
    resumed: &'a Resumed,
}

/// Trains from the beginning, or from the given checkpoint at its position.
fn train(
    team: &Team,
    args: &TrainArgs,
    flags: Flags,
    from: Option<Start>,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let optimizer = usage(args.optimizer.optimizer())?;
    let freezes = usage(args.masks.freezes(args.default_freeze(), args.seed))?;
    let schedules = usage(args.masks.schedules())?;
    usage(at_least_one("--batch", args.batch as u64))?;
    usage(at_least_one("--epochs", args.epochs))?;
    usage(at_least_one("--save-every", args.save_every.unwrap_or(1)))?;
    if args.cache_prefix && args.augment.is_some_and(Augment::is_some) {
        return usage(Err(argument(
            "--cache-prefix",
            "no --augment, as the outputs of changed images differ",
            "both",
        )));
    }
    if args.cache_prefix && team.count() > 1 {
        return usage(Err(argument("--cache-prefix", "one process", &format!("{} (mpirun)", team.count()))));
    }
    let start = from.as_ref().map_or(Position::default(), |from| from.resumed.at);
    if start.epoch >= args.epochs {
        return usage(Err(Error::InvalidArgument {
            at: "--epochs".to_owned(),
            expected: format!("more than the {} epochs of the checkpoint", start.epoch),
            got: args.epochs.to_string(),
        }));
    }
    let source = usage(Source::parse(&args.data))?;
    let opened = match &from {
        Some(_) => None,
        None => args.weights.open(args.model.is_some())?,
    };
    let network = usage(network(args, &source, from.as_ref(), opened.as_ref()))?;
    let out = match (&args.out, &from) {
        (Some(out), _) => out.clone(),
        (None, Some(from)) => folder_of(from.file),
        (None, None) => Path::new("runs").join(source.name()),
    };
    let sets = load_data(&source, args, &network, from.as_ref())?;
    let (model, beginning) = begin(&network, &sets, opened)?;
    let model = usage(args.masks.model(model))?;
    let begun = Instant::now();
    let rank = args.ranks.adapter_per_rank.then(|| team.local_rank());
    let gpu = Gpu::new(args.device.options_of_rank(rank))?;
    let accumulates = args.optimizer.accumulate() > 1 || team.count() > 1;
    let options = TrainerOptions::batch(args.batch).seed(args.seed).accumulate(accumulates);
    let report = gpu.report();
    let adapter = format!("{} {} {}", report.name, report.backend, report.driver);
    let given = beginning.as_ref().map_or(String::new(), Beginning::digest);
    let ranks = if team.count() > 1 { format!(" {} ranks", team.count()) } else { String::new() };
    let mut record = Record::new(flags, sets.digest.clone(), &format!("{adapter}{given}{ranks}"))?;
    record.ranks = team.count();
    team.check_same(&[
        ("the version of the program", env!("CARGO_PKG_VERSION").to_owned()),
        ("the data", sets.digest.clone()),
        ("the adapter or its driver", adapter),
        ("the beginning", format!("{start:?} {given}")),
        // Includes the flags on which the results depend.
        ("a flag", record.run.clone()),
        (
            "--epochs, --patience or --check-ranks-every",
            format!("{} {:?} {}", args.epochs, args.patience, args.ranks.check_ranks_every),
        ),
    ])?;
    record.classes.clone_from(&sets.classes);
    record.normalize = args.images.normalize.clone().or(network.normalize.clone()).unwrap_or_default();
    let mut trainer = Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, optimizer, options)?;
    let mut notes = sets.notes.clone();
    if args.ranks.scale_lr {
        let rate = trainer.optimizer().learning_rate() * team.count() as f64;
        usage(trainer.set_learning_rate(rate))?;
    }
    if let Some(beginning) = &beginning {
        notes.extend(beginning.apply(&mut trainer)?);
    }
    let mut initial = parameters(&trainer)?;
    let folder;
    match &from {
        // A resumed run takes its masks from the checkpoint, because the rules of --freeze may depend on the
        // initial weights.
        Some(from) => {
            folder = own_folder(team, &out)?;
            load(&mut trainer, from)?;
            record.run = from.resumed.run.clone().unwrap_or(record.run);
            record.overrides.clone_from(&from.resumed.overrides);
            if from.resumed.ranks != team.count() {
                record.overrides.push(format!(
                    "after epoch {}, batch {}: processes {} -> {}",
                    start.epoch,
                    start.batch,
                    from.resumed.ranks,
                    team.count()
                ));
            }
            // The weights that the run began with need not be there any more.
            if args.weights.is_given() {
                initial = parameters(&trainer)?;
            }
        }
        None => {
            for (glob, rule) in freezes {
                let rule = match rule.needs_scores() {
                    Some(score) => {
                        let batches = scored_batches(args, &sets, score)?;
                        rule.scores_by_path(trainer.scores(score, batches)?)
                    }
                    None => rule,
                };
                usage(trainer.freeze(&glob, rule))?;
            }
            folder = own_folder(team, &out)?;
        }
    }
    usage(args.masks.freeze_statistics(&mut trainer))?;
    usage(schedules.check(&mut trainer))?;
    if let Some(ranks) = team.several() {
        trainer.check_ranks(ranks)?;
    }
    let mut repeats = None;
    if !args.overwrite && team.leads() {
        match &from {
            Some(from) => folder.check_resumed(from.file)?,
            None => repeats = folder.check_new(&record.run, args.epochs)?,
        }
    }
    let rows = repeats.map_or(start.epoch, |(epoch, _)| epoch);
    let mut table = match team.leads() {
        true => Some(Table::open(folder.metrics(), sets.held_name, &record.run, rows, args.overwrite)?),
        false => None,
    };
    let options = RunOptions {
        epochs: args.epochs,
        batch: args.batch,
        accumulate: args.optimizer.accumulate(),
        seed: args.seed,
        save_every: args.save_every,
        patience: args.patience,
        cache_prefix: args.cache_prefix,
        schedules,
        folder,
        record,
        repeats: repeats.unwrap_or_default(),
        check_ranks_every: args.ranks.check_ranks_every,
    };
    let output = Output::tolerant(args.json);
    let run = Run { options: &options, output, gpu: &gpu, begun, interrupt, team };
    run.announce(&trainer, &sets, &notes)?;
    run.train(&mut trainer, &sets, start, &initial, table.as_mut())?;
    Ok(run.output.finish()?)
}

/// Number of training examples over which the scores of `--freeze 'GLOB=top-score:F'` are accumulated.
const SCORED: usize = 1024;

/// Returns the batches for a score, in the order of the first epoch: of one example for the Fisher information.
fn scored_batches(args: &TrainArgs, sets: &Sets, score: Score) -> frazil::Result<Vec<Batch>> {
    let rows = if score == Score::SquaredGradient { 1 } else { args.batch };
    let batches = sets.train.loader.batches_for_epoch(rows, args.seed, 0)?.take(SCORED.div_ceil(rows));
    batches.filter(|batch| batch.as_ref().is_ok_and(|batch| batch.rows() > 0) || batch.is_err()).collect()
}

/// The output folder: locked by the rank that writes to it.
fn own_folder(team: &Team, path: &Path) -> frazil::Result<Folder> {
    if team.leads() { Folder::lock(path) } else { Ok(Folder::of_another(path)) }
}

/// The folder that contains a file.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// What is known about the network before the data are loaded.
struct Network {
    model: Architecture,
    /// Size of the images, if it is not that of the data.
    size: Option<[usize; 3]>,
    /// Normalization that the weights were trained with.
    normalize: Option<Normalize>,
}

enum Architecture {
    /// A predefined model, for the images and classes of the data.
    Named(String),
    /// A model that a file names.
    Given(Box<Model>),
}

/// Finds the network: in the checkpoint of a resumed run, in the file of `--weights`, or by name.
fn network(
    args: &TrainArgs,
    source: &Source,
    from: Option<&Start>,
    opened: Option<&Opened>,
) -> frazil::Result<Network> {
    let given = match (from, opened) {
        (Some(from), _) if args.weights.is_given() => from.checkpoint.model()?,
        (None, Some(opened)) if args.model.is_none() => opened.model()?,
        _ => None,
    };
    let normalize = match (from, opened) {
        (Some(from), _) => normalization(from.checkpoint),
        (None, opened) => opened.and_then(Opened::normalization),
    };
    let (model, shape) = match given {
        Some(model) => {
            let shape = model.example_shape().to_vec();
            (Architecture::Given(Box::new(model)), shape)
        }
        None => {
            let name = args.model.as_deref().unwrap_or(source.model());
            let model = Model::named(name).map_err(|error| at_flag("--model", error))?;
            (Architecture::Named(name.to_owned()), model.example_shape().to_vec())
        }
    };
    let of_model = <[usize; 3]>::try_from(shape).ok().filter(|_| source.is_files());
    Ok(Network { model, size: args.size.or(of_model), normalize })
}

/// Returns the model for the data, and what it takes from the file of `--weights`.
fn begin(
    network: &Network,
    sets: &Sets,
    opened: Option<Opened>,
) -> Result<(Model, Option<Beginning>), Failure> {
    let train = sets.train.loader.examples();
    let (shape, classes) = (train.example_shape(), train.classes());
    let model = match &network.model {
        Architecture::Named(name) => usage(model_for(name, train))?,
        Architecture::Given(model) => {
            let model = (**model).clone();
            if model.example_shape() != shape {
                let expected = format!("the size of the images of the weights, {:?}", model.example_shape());
                return usage(Err(argument("--size", &expected, &format!("{shape:?}"))));
            }
            if model.output() == [classes] { model } else { usage(model.with_classes(classes))? }
        }
    };
    match opened {
        None => Ok((model, None)),
        Some(opened) => {
            let beginning = opened.read(model)?;
            Ok((beginning.model.clone(), Some(beginning)))
        }
    }
}

/// The model of this name for the images and the classes of a data set.
fn model_for(name: &str, data: &dyn Examples) -> frazil::Result<Model> {
    Model::named_for(name, data.example_shape(), data.classes()).map_err(|error| {
        let expected = format!("a model for images of {:?}, as in {}", data.example_shape(), data.name());
        argument("--model", &expected, &format!("{name}, which is none: {error}"))
    })
}

fn argument(at: &str, expected: &str, got: &str) -> Error {
    Error::InvalidArgument { at: at.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}

/// Loads the data. Those of a resumed run must be equal to those of its checkpoint, wherever they are.
fn load_data(
    source: &Source,
    args: &TrainArgs,
    network: &Network,
    from: Option<&Start>,
) -> Result<Sets, Failure> {
    if let Some(fraction) = args.validation
        && !(fraction > 0.0 && fraction < 1.0)
    {
        return usage(Err(argument("--validation", "a fraction between 0 and 1", &fraction.to_string())));
    }
    let loaded = source.load(&Reading {
        images: &args.images,
        size: network.size,
        normalize: network.normalize.clone(),
        augment: args.augment.unwrap_or_default(),
        validation: args.validation,
        seed: args.seed,
    });
    let Some(Start { file, resumed, checkpoint }) = from else {
        return Ok(loaded?);
    };
    let data = &args.data;
    let advice = format!("the data of {}; if they have moved, give their place with --data", file.display());
    let sets = loaded.map_err(|error| Error::Data {
        path: data.into(),
        place: "--data".to_owned(),
        why: format!("expected {advice}: {error}"),
        source: Some(error.into()),
    })?;
    let (got, classes) = (&sets.digest, class_names(checkpoint));
    match &resumed.data {
        Some(expected) if expected != got || (!classes.is_empty() && classes != sets.classes) => usage(Err(
            argument("--data", &format!("{advice} (digest {expected})"), &format!("{data} (digest {got})")),
        )),
        _ => Ok(sets),
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
