//! The `frazil` program: see `frazil --help`.

mod bench;
mod check;
mod devices;
mod draw;
mod inspect;
mod mask_args;
mod optimizer_args;
mod os_text;
mod output;
mod train;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use frazil::gpu::Backend;
use frazil::{Error, GpuOptions, Result};
use output::Output;
use std::process::ExitCode;
use std::time::Instant;

/// Train convolutional networks on any GPU with single weights frozen to the bit.
///
/// Without a command, `frazil` trains with the options of `frazil train`; `frazil train --help` lists them.
/// Exit codes: 0 success, 1 failure, 2 invalid arguments.
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
    /// Train a network with frozen weights and verify that no frozen weight changed.
    ///
    /// By default, trains on the embedded digits data set with half of the weights of each convolution
    /// frozen. Writes weights.safetensors and metrics.csv. Exits with 1 if a frozen weight changed.
    #[command(after_long_help = mask_args::RULES)]
    Train(Box<train::TrainArgs>),
    /// Benchmark kernels and whole training steps.
    Bench(bench::BenchArgs),
    /// List the adapters of this machine.
    Devices(devices::DevicesArgs),
    /// Run every kernel on an adapter and compare the results with the f64 reference; exit with 1 if one is
    /// wrong.
    ///
    /// Prints for each kernel the number of runs and the largest error as a fraction of the rounding error
    /// bound: a fraction above 1 fails.
    Check(check::CheckArgs),
    /// Print the tensors, masks and notes of a checkpoint, or compare its frozen weights with another file.
    /// Needs no GPU.
    Inspect(inspect::InspectArgs),
    /// Draw the convolution kernels of a checkpoint as an SVG picture with frozen weights outlined. Needs no
    /// GPU.
    Draw(draw::DrawArgs),
}

/// Options of every command that uses a device.
#[derive(Args)]
#[command(next_help_heading = "Device")]
struct DeviceArgs {
    /// Adapter: its index in `frazil devices`, or part of its name.
    #[arg(long, value_name = "NAME|INDEX")]
    adapter: Option<String>,
    /// Graphics API: vulkan, metal, dx12 or gl.
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

/// Why a command failed.
enum Failure {
    /// Invalid arguments: exit code 2.
    Usage(Error),
    /// An error while running: exit code 1.
    Failed(Error),
    /// The command completed with a negative result (a frozen element changed, a kernel is wrong), which it
    /// has printed: exit code 1.
    Verdict,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Failed(error)
    }
}

/// Marks an error as caused by the arguments.
fn usage<T>(result: Result<T>) -> std::result::Result<T, Failure> {
    result.map_err(Failure::Usage)
}

/// Replaces the location of an error by the flag whose value caused it.
fn at_flag(flag: &str, error: Error) -> Error {
    match error {
        Error::InvalidArgument { expected, got, .. } => {
            Error::InvalidArgument { at: flag.to_owned(), expected, got }
        }
        other => other,
    }
}

/// Returns an error if a flag is 0.
fn at_least_one(flag: &str, value: u64) -> Result<()> {
    if value > 0 {
        return Ok(());
    }
    let (expected, got) = ("1 or more".to_owned(), "0".to_owned());
    Err(Error::InvalidArgument { at: flag.to_owned(), expected, got })
}

fn main() -> ExitCode {
    let begun = Instant::now();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    // The options of `train` are hidden: in the help of `frazil`, they would obscure the list of commands.
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
        Command::Draw(args) => (draw::run(&args), false),
    };
    let (error, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Verdict) => return ExitCode::from(1),
        // Some arguments out of range are detected by the library only.
        Err(Failure::Failed(error @ (Error::InvalidArgument { .. } | Error::EmptyBatch { .. }))) => {
            (error, 2)
        }
        Err(Failure::Failed(error)) => (error, 1),
        Err(Failure::Usage(error)) => (error, 2),
    };
    // The reader of standard output has closed the pipe, as `head` does: print no message, but report
    // failure, because the work is not complete.
    if matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::from(1);
    }
    eprintln!("frazil: {error}");
    if json {
        // Standard output may be closed; the exit code still reports the failure.
        let _ = Output::new(true).json(&serde_json::json!({ "error": error.to_string() }));
    }
    ExitCode::from(code)
}

/// Turns an invalid argument found by the library into a usage error.
fn as_usage<T>(result: std::result::Result<T, Failure>) -> std::result::Result<T, Failure> {
    match result {
        Err(Failure::Failed(error @ Error::InvalidArgument { .. })) => usage(Err(error)),
        other => other,
    }
}
