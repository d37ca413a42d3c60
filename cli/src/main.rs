//! The `frazil` program: see `frazil --help`.

mod bench;
mod check;
mod devices;
mod inspect;
mod mask_args;
mod optimizer_args;
mod output;
mod train;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use frazil::gpu::Backend;
use frazil::{Error, GpuOptions, Result};
use output::Output;
use std::process::ExitCode;
use std::time::Instant;

/// Trains convolutional networks on any GPU with single weights frozen, to the bit.
///
/// Without a command it trains, and takes the options of `frazil train`, which `frazil train --help` lists. Exit codes: 0 done, 1 failed, 2 bad arguments.
#[derive(Parser)]
#[command(
    name = "frazil",
    version,
    args_conflicts_with_subcommands = true,
    override_usage = "frazil [OPTIONS OF TRAIN]\n       frazil <COMMAND>"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: train::TrainArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network with some of its weights frozen, and prove that those did not move.
    ///
    /// Without options it trains on the digits that are in the program, with half of every convolution's weights frozen.
    /// It writes weights.safetensors and metrics.csv, and ends with exit code 1 if a frozen element changed.
    #[command(after_long_help = mask_args::RULES)]
    Train(Box<train::TrainArgs>),
    /// Measure kernels and whole training steps.
    Bench(bench::BenchArgs),
    /// List the adapters of this machine.
    Devices(devices::DevicesArgs),
    /// Run every kernel on an adapter against the f64 reference: exit code 1 if one is wrong.
    ///
    /// Each line says how often a kernel was run, and its worst error as a part of what rounding allows: above 1 fails.
    Check(check::CheckArgs),
    /// Show a file's tensors, masks and notes; or compare its frozen elements with another file's. Needs no GPU.
    Inspect(inspect::InspectArgs),
}

/// What all commands that use a device take.
#[derive(Args)]
#[command(next_help_heading = "Device")]
struct DeviceArgs {
    /// Adapter: its number in `frazil devices`, or a part of its name.
    #[arg(long, value_name = "NAME|INDEX")]
    adapter: Option<String>,
    /// Interface: vulkan, metal, dx12 or gl.
    #[arg(long)]
    backend: Option<Backend>,
}

impl DeviceArgs {
    fn options(&self) -> GpuOptions {
        let mut options = GpuOptions::default();
        if let Some(adapter) = &self.adapter {
            options = options.adapter(adapter);
        }
        if let Some(backend) = self.backend {
            options = options.backend(backend);
        }
        options
    }
}

/// How a command failed.
enum Failure {
    /// The arguments do not fit: exit code 2.
    Usage(Error),
    /// Something went wrong: exit code 1.
    Failed(Error),
    /// It ran, and its answer is no; it was said already: exit code 1.
    Verdict,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Failed(error)
    }
}

/// Marks errors that come from the arguments.
fn usage<T>(result: Result<T>) -> std::result::Result<T, Failure> {
    result.map_err(Failure::Usage)
}

/// Names the flag in an error about what it was given.
fn at_flag(flag: &str, error: Error) -> Error {
    match error {
        Error::InvalidArgument { expected, got, .. } => {
            Error::InvalidArgument { at: flag.to_owned(), expected, got }
        }
        other => other,
    }
}

fn main() -> ExitCode {
    let begun = Instant::now();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    // All of train's options would bury the commands.
    let matches = Cli::command().mut_args(|arg| arg.hide(true)).get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let given = train::Flags::given(matches.subcommand_matches("train").unwrap_or(&matches));
    let (result, json) = match cli.command.unwrap_or(Command::Train(Box::new(cli.train))) {
        Command::Train(args) => (train::run(&args, given), args.json),
        Command::Devices(args) => (devices::run(&args), args.json),
        Command::Bench(args) => (bench::run(&args, begun), args.json),
        Command::Check(args) => (check::run(&args), args.json),
        Command::Inspect(args) => (inspect::run(&args), args.json),
    };
    let (error, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Verdict) => return ExitCode::from(1),
        // An argument out of range may be found only when the trainer is made.
        Err(Failure::Failed(error @ (Error::InvalidArgument { .. } | Error::EmptyBatch { .. }))) => {
            (error, 2)
        }
        Err(Failure::Failed(error)) => (error, 1),
        Err(Failure::Usage(error)) => (error, 2),
    };
    // Whoever read our output has seen enough; but the work was not finished.
    if matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::from(1);
    }
    eprintln!("frazil: {error}");
    if json {
        // If stdout is gone as well, the exit code must do.
        let _ = Output::new(true).json(&serde_json::json!({ "error": error.to_string() }));
    }
    ExitCode::from(code)
}

/// What the flags do not fit is a matter of usage.
fn as_usage<T>(result: std::result::Result<T, Failure>) -> std::result::Result<T, Failure> {
    match result {
        Err(Failure::Failed(error @ Error::InvalidArgument { .. })) => usage(Err(error)),
        other => other,
    }
}
