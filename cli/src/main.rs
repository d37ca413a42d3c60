//! The `frazil` program: see `frazil --help`.

mod bench;
mod check;
mod data;
mod devices;
mod draw;
mod evaluate;
mod export;
mod inspect;
mod interrupt;
mod mask_args;
mod network;
mod optimizer_args;
mod os_text;
mod output;
mod predict;
mod ranks;
mod summary;
mod train;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use frazil::gpu::{AdapterReport, Backend, devices};
use frazil::{Error, GpuOptions, Result};
use interrupt::Interrupt;
use output::Output;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

/// Train convolutional networks on any GPU with single weights frozen to the bit.
///
/// Without a command, `frazil` trains with the options of `frazil train`; `frazil train --help` lists them.
/// Exit codes: 0 success, 1 failure, 2 invalid arguments, 3 no adapter, 4 device lost or timeout, 130
/// interrupted.
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
    /// Prints the adapter, each case as it ends, and for each kernel the number of runs and the largest error as
    /// a fraction of the rounding error bound: a fraction above 1 fails. Exits with 1 if a kernel is wrong, 3
    /// without an adapter, 4 if the device was lost or a case did not end.
    Check(Box<check::CheckArgs>),
    /// Print the tensors, masks and notes of a checkpoint, or compare its frozen weights with another file.
    /// Needs no GPU.
    Inspect(inspect::InspectArgs),
    /// Draw the convolution kernels of a checkpoint as an SVG or PNG picture with frozen weights outlined, what
    /// moved since other weights, and what the layers compute for an image.
    Draw(draw::DrawArgs),
    /// Print the layers of a predefined model or of a file: shapes, parameters, frozen weights, operations. Needs no
    /// GPU.
    Summary(summary::SummaryArgs),
    /// Evaluate a network on a data set: loss, accuracy, and accuracy of each class.
    Evaluate(evaluate::EvaluateArgs),
    /// Predict the classes of images, or compute the outputs of a network for examples in a .npy file.
    Predict(predict::PredictArgs),
    /// Write the weights and masks of a network for PyTorch or as an ONNX file. Needs no GPU.
    Export(export::ExportArgs),
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
    /// Maximum total size of all device buffers, in MiB; by default 4096 on a software adapter, and unlimited
    /// on others.
    #[arg(long, value_name = "MIB")]
    memory_budget: Option<u32>,
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
        if let Some(mebibytes) = self.memory_budget {
            options = options.memory_budget(u64::from(mebibytes) << 20);
        }
        options
    }

    /// Options for one of several processes on this machine, by its number among them: the adapters that the flags
    /// allow, in turn. Software adapters count only if there are no others. `None` for the only process.
    fn options_of_rank(&self, rank: Option<usize>) -> GpuOptions {
        let Some(rank) = rank else { return self.options() };
        let all = devices();
        let chosen = |report: &AdapterReport| match &self.adapter {
            None => true,
            Some(adapter) => report.name.to_lowercase().contains(&adapter.to_lowercase()),
        };
        let of_backend =
            |report: &AdapterReport| self.backend.is_none_or(|backend| backend == report.backend);
        let mut own: Vec<_> =
            (0..all.len()).filter(|&index| chosen(&all[index]) && of_backend(&all[index])).collect();
        if own.iter().any(|&index| !all[index].software) {
            own.retain(|&index| !all[index].software);
        }
        // A GPU may be there once for each API.
        if let Some(backend) = own.first().map(|&index| all[index].backend) {
            own.retain(|&index| all[index].backend == backend);
        }
        // Without any, the options are those that fail with a reason.
        match own.get(rank % own.len().max(1)) {
            Some(index) => self.options().adapter(index.to_string()),
            None => self.options(),
        }
    }
}

/// Why a command failed.
enum Failure {
    /// Invalid arguments.
    Usage(Error),
    /// An error while running.
    Failed(Error),
    /// The command completed with a negative result (a frozen element changed, a kernel is wrong), which this
    /// message summarizes.
    Verdict(String),
    /// The device was lost, hangs or crashed in a part of the command, which this message summarizes.
    Stopped(String),
    /// The command was interrupted. The message says what was saved, and how to continue.
    Interrupted(String),
    /// Another of the processes that train together reports why they failed; this is the exit code.
    Elsewhere(u8),
}

/// Exit code of an interrupted command, as of a program that SIGINT ends.
const INTERRUPTED: u8 = 130;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Failed(error)
    }
}

impl Failure {
    fn message(&self) -> String {
        match self {
            // An image file that cannot be decoded.
            Failure::Failed(error @ Error::Data { place, .. }) if place == "image" => {
                format!("{error}; --skip-bad leaves such files out")
            }
            Failure::Usage(error) | Failure::Failed(error) => error.to_string(),
            Failure::Verdict(message) | Failure::Stopped(message) | Failure::Interrupted(message) => {
                message.clone()
            }
            Failure::Elsewhere(_) => String::new(),
        }
    }

    /// Whether another rank has more to say about it.
    fn is_of_another_rank(&self) -> bool {
        matches!(self, Failure::Failed(Error::Ranks { .. }))
    }

    /// The kind of failure, for programs that read JSON.
    fn kind(&self) -> &'static str {
        match self {
            Failure::Usage(error) | Failure::Failed(error) => error.kind(),
            Failure::Verdict(_) => "verdict",
            Failure::Stopped(_) => "stopped",
            Failure::Interrupted(_) => "interrupted",
            Failure::Elsewhere(_) => "ranks",
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(error) | Failure::Failed(error) => match error {
                Error::NoAdapter { .. } | Error::AdapterRejected { .. } => 3,
                Error::DeviceLost { .. } | Error::Timeout { .. } => 4,
                // Some arguments out of range are detected by the library only.
                Error::InvalidArgument { .. } | Error::EmptyBatch { .. } => 2,
                _ if matches!(self, Failure::Usage(_)) => 2,
                _ => 1,
            },
            Failure::Verdict(_) => 1,
            Failure::Stopped(_) => 4,
            Failure::Interrupted(_) => INTERRUPTED,
            Failure::Elsewhere(code) => *code,
        }
    }
}

/// Prints a failure on standard error, and in JSON mode also on standard output.
fn report(failure: &Failure, json: bool) {
    if let Failure::Elsewhere(_) = failure {
        return;
    }
    let message = failure.message();
    output::failure(&message);
    print_object(json, &message, failure.kind(), failure.exit_code());
}

/// Prints the JSON object of a failing call. Standard output may be closed; the exit code still reports the
/// failure.
fn print_object(json: bool, message: &str, kind: &str, code: u8) {
    let object = serde_json::json!({ "error": message, "kind": kind, "exit_code": code });
    let _ = Output::new(json).json(&object);
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

/// Prints a warning or error of the library like a message of this program, and other levels with their
/// module.
fn log_line(buffer: &mut env_logger::fmt::Formatter, record: &log::Record) -> std::io::Result<()> {
    let line = match record.level() {
        log::Level::Error => format!("error: {}", record.args()),
        log::Level::Warn => format!("warning: {}", record.args()),
        level => format!("{level} {}: {}", record.target(), record.args()),
    };
    writeln!(buffer, "{}", output::wrapped(line))
}

/// Prints what clap says about the command line: an error, or the help or version that was asked for.
fn print_clap(error: &clap::Error) -> ExitCode {
    // All processes that MPI has started have the same command line.
    if ranks::launched_rank() == 0 {
        let _ = error.print();
    }
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    // Not parsed, as the command line is invalid.
    let json = std::env::args_os().any(|argument| argument == "--json");
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or(&text);
    print_object(json, message.strip_prefix("error: ").unwrap_or(message).trim_end(), "invalid_argument", 2);
    ExitCode::from(2)
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let filter = env_logger::Env::default().default_filter_or("warn,wgpu_hal=off");
    env_logger::Builder::from_env(filter).format(log_line).init();
    // The options of `train` are hidden: in the help of `frazil`, they would obscure the list of commands.
    let parsed = Cli::command().mut_args(|arg| arg.hide(true)).try_get_matches();
    let (matches, cli) = match parsed.and_then(|m| Cli::from_arg_matches(&m).map(|cli| (m, cli))) {
        Ok(parsed) => parsed,
        Err(error) => return print_clap(&error),
    };
    let given = train::Flags::given(matches.subcommand_matches("train").unwrap_or(&matches));
    let command = cli.command.unwrap_or(Command::Train(Box::new(cli.train)));
    let json = match &command {
        Command::Train(args) => args.json,
        Command::Devices(args) => args.json,
        Command::Bench(args) => args.json,
        Command::Check(args) => args.is_json(),
        Command::Inspect(args) => args.json,
        Command::Draw(_) => false,
        Command::Summary(args) => args.json,
        Command::Evaluate(args) => args.json,
        Command::Predict(args) => args.json,
        Command::Export(args) => args.json,
    };
    let interrupt = Interrupt::handle(matches!(command, Command::Train(_)), json);
    let result = match command {
        Command::Train(args) => train::run(&args, given, &interrupt),
        Command::Devices(args) => devices::run(&args),
        Command::Bench(args) => bench::run(&args, begun),
        Command::Check(args) => check::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Draw(args) => draw::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Export(args) => export::run(&args),
    };
    ExitCode::from(reported(result, json))
}

/// Prints a failure, and returns the exit code.
fn reported(result: std::result::Result<(), Failure>, json: bool) -> u8 {
    match result {
        Ok(()) => 0,
        // The reader of standard output has closed the pipe, as `head` does: print no message, but report
        // failure, because the work is not complete.
        Err(Failure::Failed(error)) if output::is_closed_pipe(&error) => 1,
        Err(failure) => {
            report(&failure, json);
            failure.exit_code()
        }
    }
}

/// Ends the program with a result, without waiting for other threads.
fn exit(result: std::result::Result<(), Failure>, json: bool) -> ! {
    std::process::exit(i32::from(reported(result, json)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_kinds_of_failure_apart() {
        let lost = || Error::DeviceLost { reason: "gone".to_owned() };
        let wanted = "any name".to_owned();
        let none = Error::NoAdapter { wanted, found: Vec::new(), hint: "install one".to_owned() };
        let limit = std::time::Duration::from_secs(1);
        let refused = Error::AdapterRejected { adapter: "a".to_owned(), reason: "r".to_owned() };
        let unknown = || Error::UnknownParameter { path: "a".to_owned(), similar: Vec::new() };
        let cases = [
            (Failure::Usage(unknown()), 2, "unknown_parameter"),
            (Failure::Failed(unknown()), 1, "unknown_parameter"),
            (Failure::Failed(at_least_one("--epochs", 0).unwrap_err()), 2, "invalid_argument"),
            (Failure::Failed(none), 3, "no_adapter"),
            (Failure::Failed(refused), 3, "adapter_rejected"),
            (Failure::Failed(lost()), 4, "device_lost"),
            (Failure::Usage(lost()), 4, "device_lost"),
            (Failure::Failed(Error::Timeout { what: "a step".to_owned(), limit }), 4, "timeout"),
            (Failure::Verdict("a kernel is wrong".to_owned()), 1, "verdict"),
            (Failure::Stopped("a case hangs".to_owned()), 4, "stopped"),
            (Failure::Interrupted("stopped".to_owned()), 130, "interrupted"),
        ];
        for (failure, code, kind) in cases {
            assert_eq!((failure.exit_code(), failure.kind()), (code, kind), "{}", failure.message());
        }
    }
}
