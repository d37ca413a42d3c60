//! `frazil check`: runs every kernel on an adapter and compares the results with the f64 reference.

mod known;
mod lines;
mod report;
mod reproduce;
mod work;

use super::output::Output;
use super::{DeviceArgs, Failure, at_flag, usage};
use clap::Args;
use frazil::conformance::{Extent, Fault, Suite};
use frazil::low_level::GemmFamily;
use frazil::{Error, Gpu, GpuOptions, Result};
use lines::{Line, RunLine};
use report::Report;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use wildmatch::WildMatch;
use work::Worker;

/// Seconds after which a case has timed out, without `--timeout`.
const TIMEOUT: u64 = 600;

#[derive(Args)]
pub struct CheckArgs {
    /// Test only this GEMM family; may be repeated [default: all families that the adapter supports].
    #[arg(long, help_heading = "Selection")]
    family: Vec<GemmFamily>,
    /// Run cases with a kernel that matches this glob, such as gemm_*; may be repeated.
    #[arg(long, value_name = "GLOB", help_heading = "Selection")]
    kernel: Vec<String>,
    /// Run cases with an operation that matches this glob, such as conv2d*; may be repeated.
    #[arg(long, value_name = "GLOB", help_heading = "Selection")]
    op: Vec<String>,
    /// Run cases whose name matches this glob; may be repeated.
    #[arg(long, value_name = "GLOB", help_heading = "Selection")]
    case: Vec<String>,
    /// Run part I of N parts of about equal size, counted from 1.
    #[arg(long, value_name = "I/N", help_heading = "Selection")]
    shard: Option<Shard>,
    /// Run each kernel in a few cases, in the adapter's own family.
    #[arg(long, conflicts_with = "full", help_heading = "Selection")]
    quick: bool,
    /// Also run convolutions of known networks, training steps, tensors of 128 MiB, and random shapes.
    #[arg(long, help_heading = "Selection")]
    full: bool,
    /// Also run 200 cases with random shapes, drawn with this seed [default with --full: 1].
    #[arg(long, help_heading = "Selection")]
    seed: Option<u64>,
    /// Print the selected runs, and run nothing.
    #[arg(long, help_heading = "Selection")]
    list: bool,
    /// Run each case N times; the results must have the same bits each time.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Runs")]
    repeat: u32,
    /// Repeat each case in N threads at the same time on one device, to find results that depend on timing.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Runs")]
    load: u32,
    /// Run the cases in a process of their own, which is started again after a crash, a hang or a lost device.
    #[arg(long, help_heading = "Runs")]
    isolate: bool,
    /// Give up on a case after this time [default: 600; 120 for a single wait for the device].
    #[arg(long, value_name = "SECONDS", help_heading = "Runs")]
    timeout: Option<u64>,
    /// End after this time, whether or not all cases have run.
    #[arg(long, value_name = "SECONDS", help_heading = "Runs")]
    time_limit: Option<u64>,
    /// Plant a fault, to see that it is found: wrong, nan, flaky, hang, lost or crash with a glob of kernels, such
    /// as wrong:gemm_*.
    #[arg(long, value_name = "FAULT:GLOB", help_heading = "Runs")]
    plant: Option<Planted>,
    /// Repeat one case, by its name; with --repeat, until it fails.
    #[arg(long, value_name = "CASE", conflicts_with_all = ["case", "list", "isolate", "load", "write_baseline"], help_heading = "Diagnosis")]
    reproduce: Option<String>,
    /// Write the shaders of the case, its operands and its results to this folder.
    #[arg(long, value_name = "DIR", requires = "reproduce", help_heading = "Diagnosis")]
    dump: Option<PathBuf>,
    /// Report differences from FILE, JSON lines of an earlier call: new failures, fixed and missing cases. Its
    /// failures are known.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    baseline: Option<PathBuf>,
    /// Write what a later --baseline needs: JSON lines without those of cases that pass.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    write_baseline: Option<PathBuf>,
    /// Globs of cases that must fail, one per line. A line whose cases pass is an error.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    expect: Option<PathBuf>,
    /// Write the results in JUnit's format.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    junit: Option<PathBuf>,
    /// Write a summary in Markdown.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    markdown: Option<PathBuf>,
    /// Print only cases that fail.
    #[arg(long, short, help_heading = "Results")]
    quiet: bool,
    /// Print JSON lines: the adapter, an object for each case as it ends, one for each kernel, then the summary.
    #[arg(long, help_heading = "Results")]
    pub json: bool,
    /// Run the cases for another process: print also what is about to run, and leave the verdict to it.
    #[arg(long, hide = true)]
    worker: bool,
    /// Begin after this case and variant.
    #[arg(long, hide = true, value_delimiter = ',', num_args = 1)]
    after: Vec<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One of several parts, as `1/4`.
#[derive(Clone, Copy)]
struct Shard([usize; 2]);

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some([i.parse().ok()?, n.parse().ok()?]));
        let valid = numbers.filter(|[number, count]| (1..=*count).contains(number));
        valid.map(Shard).ok_or_else(|| "expected I/N with I from 1 to N, such as 1/4".to_owned())
    }
}

/// A planted fault: of the device, or a crash of the process.
#[derive(Clone)]
pub struct Planted {
    fault: Option<Fault>,
    crash: Option<String>,
}

impl FromStr for Planted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix("crash:") {
            Some(glob) => Ok(Planted { fault: None, crash: Some(glob.to_owned()) }),
            None => Ok(Planted { fault: Some(text.parse()?), crash: None }),
        }
    }
}

impl std::fmt::Display for Planted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.fault, &self.crash) {
            (Some(fault), _) => fault.fmt(f),
            (None, glob) => write!(f, "crash:{}", glob.as_deref().unwrap_or_default()),
        }
    }
}

impl Planted {
    /// Whether the process crashes before it runs these kernels.
    fn crashes(&self, kernels: &[&str]) -> bool {
        let matches = |glob: &String| kernels.iter().any(|kernel| WildMatch::new(glob).matches(kernel));
        self.crash.as_ref().is_some_and(matches)
    }
}

impl CheckArgs {
    /// Whether standard output has JSON lines.
    pub fn is_json(&self) -> bool {
        self.json || self.worker
    }

    fn suite(&self) -> Suite {
        let extent = match (self.quick, self.full) {
            (true, _) => Extent::Quick,
            (_, true) => Extent::Full,
            _ => Extent::Table,
        };
        let mut suite = Suite::new().families(&self.family).extent(extent);
        suite = suite.repeat(self.repeat as usize).load(self.load as usize);
        suite = self.kernel.iter().fold(suite, Suite::kernel);
        suite = self.op.iter().fold(suite, Suite::op);
        suite = self.case.iter().fold(suite, Suite::case);
        if let Some(Shard([number, count])) = self.shard {
            suite = suite.shard(number, count);
        }
        if let Some(seed) = self.seed {
            suite = suite.seed(seed);
        }
        match self.after[..] {
            [case, variant] => suite.after([case, variant]),
            _ => suite,
        }
    }

    fn options(&self) -> GpuOptions {
        let options = self.device.options().cooperative_matrix(true);
        match self.timeout {
            Some(seconds) => options.timeout(Duration::from_secs(seconds)),
            None => options,
        }
    }

    /// The arguments that select cases and variants, in a fixed order.
    fn selection(&self) -> String {
        let mut all: Vec<String> = self.family.iter().map(|family| format!("--family {family}")).collect();
        for (flag, globs) in [("--kernel", &self.kernel), ("--op", &self.op), ("--case", &self.case)] {
            all.extend(globs.iter().map(|glob| format!("{flag} {glob}")));
        }
        all.extend(self.shard.map(|Shard([number, count])| format!("--shard {number}/{count}")));
        all.extend(self.quick.then(|| "--quick".to_owned()));
        all.extend(self.full.then(|| "--full".to_owned()));
        all.extend(self.seed.map(|seed| format!("--seed {seed}")));
        all.join(" ")
    }

    /// How long a case may take. The device's own wait ends first, and says what it waited for.
    fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout.map_or(TIMEOUT, |seconds| seconds.saturating_add(2)))
    }

    /// Whether a result is printed as text. With a baseline, differences are printed instead.
    fn prints(&self, case: &lines::CaseLine) -> bool {
        self.baseline.is_none() && (!self.quiet || !case.passed())
    }
}

pub fn run(args: &CheckArgs) -> std::result::Result<(), Failure> {
    super::at_least_one("--repeat", args.repeat.into())?;
    for (flag, seconds) in [("--timeout", args.timeout), ("--time-limit", args.time_limit)] {
        super::at_least_one(flag, seconds.unwrap_or(1))?;
    }
    if args.worker {
        let output = Output::new(true);
        let tell = |line: Line| output.json(&line.to_json());
        let planted = args.plant.as_ref();
        return Ok(work::work(&args.suite(), &args.selection(), args.options(), planted, tell)?);
    }
    for file in [&args.junit, &args.markdown, &args.write_baseline].into_iter().flatten() {
        report::check_folder(file)?;
    }
    if let Some(case) = &args.reproduce {
        return reproduce::run(args, case);
    }
    if args.list {
        return list(args);
    }
    let report = Report::new(args)?;
    // Errors of the arguments and of the adapter, before a worker has them.
    let gpu = Gpu::new(args.options())?;
    usage(args.suite().plan(gpu.report()).map_err(at_argument))?;
    drop(gpu);
    let worker = if args.isolate { Worker::process(None)? } else { Worker::thread(args)? };
    supervise(args, worker, report)
}

/// An error of the suite, with the flag instead of the name of a method.
fn at_argument(error: Error) -> Error {
    let flag = match &error {
        Error::InvalidArgument { at, .. } => match at.as_str() {
            "families" => "--family",
            "kernel" => "--kernel",
            "op" => "--op",
            "case" => "--case",
            "shard" => "--shard",
            _ => return error,
        },
        _ => return error,
    };
    at_flag(flag, error)
}

/// Prints the runs.
fn list(args: &CheckArgs) -> std::result::Result<(), Failure> {
    let output = Output::new(args.json);
    let gpu = Gpu::new(args.options())?;
    for run in usage(args.suite().plan(gpu.report()).map_err(at_argument))? {
        let line = RunLine::new(&run);
        let shapes: Vec<_> = line.shapes.iter().map(|shape| format!("{shape:?}")).collect();
        output.text(format!("{} [{}] {}", line.id(), line.kernels.join(", "), shapes.join(" ")))?;
        output.json(&Line::Run(line).to_json())?;
    }
    Ok(())
}

/// Receives the lines of a worker, and stops a case that takes too long.
fn supervise(
    args: &CheckArgs,
    mut worker: Worker,
    mut report: Report<'_>,
) -> std::result::Result<(), Failure> {
    let begun = Instant::now();
    let limit = args.time_limit.map(|seconds| begun + Duration::from_secs(seconds));
    let patience = args.patience();
    let mut current: Option<(RunLine, Instant)> = None;
    let unfinished = loop {
        let now = Instant::now();
        let deadline = current.as_ref().and_then(|(_, since)| since.checked_add(patience));
        let next = deadline.into_iter().chain(limit).min();
        let wait = next.map_or(Duration::from_secs(3600), |next| next.saturating_duration_since(now));
        let event = match worker.events.recv_timeout(wait) {
            Ok(event) => event,
            Err(RecvTimeoutError::Disconnected) => match current.take() {
                // The worker has run everything.
                None if !worker.is_process() => break None,
                None => match worker.ended() {
                    ended if ended.ends_with(": 0") => break None,
                    ended => break Some(format!("the worker process ended between two cases: {ended}")),
                },
                Some((run, since)) => {
                    let ended = worker.ended();
                    let position = run.position;
                    let message = format!("the process that ran it ended: {ended}");
                    report.case(run.ended("crash", message, since.elapsed().as_secs_f64()))?;
                    if !worker.is_process() {
                        break Some(ended);
                    }
                    worker = Worker::process(Some(position))?;
                    continue;
                }
            },
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                if limit.is_some_and(|limit| now >= limit) {
                    worker.stop();
                    break Some(format!("the time limit of {} s", args.time_limit.unwrap_or_default()));
                }
                let Some((run, since)) = current.take_if(|_| deadline.is_some_and(|at| now >= at)) else {
                    continue;
                };
                let position = run.position;
                let seconds = since.elapsed().as_secs_f64();
                report.case(run.ended("timeout", format!("did not end within {seconds:.0} s"), seconds))?;
                if !worker.is_process() {
                    break Some("a case hangs; --isolate goes on after it".to_owned());
                }
                worker.stop();
                worker = Worker::process(Some(position))?;
                continue;
            }
        };
        match event? {
            Line::Adapter(adapter) => report.adapter(adapter)?,
            Line::Run(run) => {
                report.begin(&run);
                current = Some((run, Instant::now()));
            }
            Line::Case(case) => {
                let position = current.take().map(|(run, _)| run.position);
                let restart = case.is_stopped() && worker.is_process();
                report.case(*case)?;
                if restart {
                    worker.stop();
                    worker = Worker::process(position)?;
                }
            }
            Line::Change(_) | Line::Kernel(_) | Line::Summary(_) => {}
        }
    };
    let result = report.finish(unfinished);
    if matches!(&result, Err(Failure::Stopped(_))) {
        // A thread of the driver may never end, and would keep the process.
        super::exit(result, args.json);
    }
    result
}
