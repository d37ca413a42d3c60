//! `frazil bench`

mod chart;
mod job;
mod profile;
mod table;
mod trace;

use super::optimizer_args::Rule;
use super::output::Output;
use super::{DeviceArgs, Failure, as_usage, usage};
use chart::Chart;
use clap::{Args, ValueEnum};
use frazil::kernels::GemmFamily;
use frazil::plan::TimedDispatch;
use frazil::{Error, Gpu, Optimizer};
use indicatif::ProgressBar;
use job::{Job, Variant, Workload};
use std::path::{Path, PathBuf};
use std::time::Instant;
use table::Row;
use trace::Trace;

#[derive(Args)]
pub struct BenchArgs {
    /// digits, lenet28, cifar, resnet20, mobilenet-small, conv-layer, gemm-N, update-N, or all; may be given several times.
    #[arg(long, default_value = "all", value_name = "NAME")]
    workload: Vec<String>,
    /// Examples in a step [default: 64, of conv-layer 16].
    #[arg(long)]
    batch: Option<usize>,
    /// Steps measured of each workload, after the first.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Freeze this fraction of every layer but the last, and compare with nothing frozen; as a control also with empty
    /// masks, which must take as long.
    #[arg(long, value_name = "FRACTION")]
    frozen: Option<f64>,
    /// Which elements that fraction is.
    #[arg(long, value_enum, default_value = "scattered")]
    structure: Structure,
    /// Also measure steps on what the lowest frozen layers give, computed before (with --structure layers).
    #[arg(long, requires = "frozen")]
    cache_prefix: bool,
    /// The rule of the updates.
    #[arg(long, value_enum, default_value = "sgd")]
    optimizer: Rule,
    /// How matrices are multiplied: register, subgroup4, subgroup8, tiled-small, tiled-large, or on matrix units
    /// cooperative8x8, cooperative16x32 and so on [default: what suits the adapter].
    #[arg(long)]
    family: Option<GemmFamily>,
    /// Also time every kernel by the device's clock.
    #[arg(long)]
    profile: bool,
    /// Write one step of each workload as a Chrome trace, which Perfetto opens.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Draw each step by layer and kernel; with --frozen also how long it takes at other fractions.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// One JSON object a line on standard output.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Which elements of a layer are frozen.
#[derive(Clone, Copy, ValueEnum)]
pub enum Structure {
    /// Drawn at random.
    Scattered,
    /// Whole output channels.
    Filters,
    /// Whole rows of the kernel as a matrix: (kernel row, kernel column, input channel).
    Rows,
    /// The lowest convolutions, whole.
    Layers,
}

impl std::fmt::Display for Structure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Structure::Scattered => "scattered",
            Structure::Filters => "filters",
            Structure::Rows => "rows",
            Structure::Layers => "layers",
        })
    }
}

impl BenchArgs {
    /// At a rate so low that no workload diverges: updates would be skipped then.
    fn optimizer(&self) -> frazil::Result<Optimizer> {
        self.optimizer.optimizer(0.001)
    }

    /// What to measure of a workload, interleaved; the first is what the others are held against.
    fn variants(&self) -> Vec<Variant> {
        let Some(fraction) = self.frozen else { return vec![Variant::Plain] };
        let mut all = vec![Variant::Plain, Variant::Frozen(fraction), Variant::EmptyMask];
        if self.cache_prefix {
            all.push(Variant::Cached(fraction));
        }
        if self.svg.is_some() {
            all.extend(CURVE.into_iter().filter(|f| *f != fraction).map(Variant::Frozen));
        }
        all
    }
}

/// The fractions of a curve beside 0, which the empty mask is.
const CURVE: [f64; 5] = [0.25, 0.5, 0.75, 0.9, 0.99];

/// Profiled steps of each workload, after a first that does not count.
const PROFILED: usize = 5;

/// The workloads of `all`.
const ALL: [&str; 9] = [
    "digits",
    "lenet28",
    "cifar",
    "resnet20",
    "conv-layer",
    "gemm-256",
    "gemm-512",
    "gemm-1024",
    "update-1000000",
];

/// A workload with its times, in milliseconds.
struct Measured {
    job: Job,
    first: f64,
    startup: f64,
    steps: Vec<f64>,
    forward: Vec<f64>,
    profiles: Vec<Vec<TimedDispatch>>,
}

pub fn run(args: &BenchArgs, begun: Instant) -> Result<(), Failure> {
    if args.steps == 0 || args.batch == Some(0) {
        return usage(Err(Error::EmptyBatch { at: "--steps and --batch".to_owned() }));
    }
    let workloads = workloads(args)?;
    let output = Output::new(args.json);
    let by_units = matches!(args.family, Some(GemmFamily::Cooperative { .. }));
    let gpu = Gpu::new(args.device.options().cooperative_matrix(by_units))?;
    let opened = begun.elapsed().as_secs_f64() * 1e3;
    let report = gpu.report();
    let needs_clock = args.profile || args.trace.is_some() || args.svg.is_some();
    if needs_clock && !report.timestamps {
        let got = format!("{}, which has none", report.name);
        return usage(Err(invalid("--profile, --trace and --svg", "an adapter with timestamp queries", got)));
    }
    // A file that cannot be written is better known before all is measured.
    for path in args.trace.iter().chain(&args.svg) {
        write(path, "")?;
    }
    let software =
        if report.software { ", a software adapter: its times rank nothing on hardware" } else { "" };
    output.text(format!("adapter: {} ({}{software}), {}", report.name, report.backend, report.driver))?;
    if !args.profile {
        output.text(table::HEAD)?;
    }
    let profiled = needs_clock || (args.frozen.is_some() && report.timestamps);
    let mut trace = Trace::default();
    let mut charts = Vec::new();
    for workload in workloads {
        let mut all = Vec::new();
        for variant in args.variants() {
            let begun = begin(args, &gpu, workload, variant, opened);
            // The model has no layers to cache, or not with this structure.
            all.push(if variant.is_cached() { as_usage(begun)? } else { begun? });
        }
        measure(args, &gpu, &mut all)?;
        if profiled {
            take_profiles(&mut all)?;
        }
        let rows: Vec<Row> = all.iter().map(|one| Row::new(args, &gpu, one, all.first())).collect();
        for row in &rows {
            output.text(row)?;
            output.json(&row.json())?;
        }
        for one in &all {
            if args.profile {
                profile::print(&output, &one.job.name(), &profile::mean(&one.profiles))?;
            }
            if let (Some(_), Some(step)) = (&args.trace, one.profiles.last()) {
                trace.add(&one.job.name(), step);
            }
        }
        if let (Some(_), Some(first)) = (&args.svg, all.first()) {
            charts.push(Chart::new(&first.job, &profile::mean(&first.profiles), &rows));
        }
    }
    if let Some(path) = &args.trace {
        write(path, &trace.json(report).to_string())?;
    }
    if let Some(path) = &args.svg {
        write(path, &chart::svg(report, args.structure, &charts)?)?;
    }
    Ok(())
}

fn workloads(args: &BenchArgs) -> Result<Vec<Workload>, Failure> {
    let names: Vec<&str> = match args.workload.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["all"] => ALL.to_vec(),
        names => names.to_vec(),
    };
    let workloads = names.iter().map(|name| usage(Workload::parse(name)));
    let workloads = workloads.collect::<Result<Vec<_>, _>>()?;
    if let Some(fraction) = args.frozen {
        let wrong = workloads.iter().find(|w| !w.trains());
        if let Some(workload) = wrong {
            return usage(Err(invalid("--frozen", "workloads that train a model", workload)));
        }
        if !(0.0..=1.0).contains(&fraction) {
            return usage(Err(invalid("--frozen", "a fraction from 0 to 1", fraction)));
        }
    }
    Ok(workloads)
}

fn write(path: &Path, text: &str) -> frazil::Result<()> {
    std::fs::write(path, text).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn invalid(at: &str, expected: &str, got: impl ToString) -> Error {
    Error::InvalidArgument { at: at.to_owned(), expected: expected.to_owned(), got: got.to_string() }
}

/// Compiles a workload and makes its first step. `opened`: milliseconds from the start of the process to an open device.
fn begin(
    args: &BenchArgs,
    gpu: &Gpu,
    workload: Workload,
    variant: Variant,
    opened: f64,
) -> Result<Measured, Failure> {
    let begun = Instant::now();
    let mut job = Job::new(gpu, args, workload, variant)?;
    let compiled = Instant::now();
    job.step()?;
    gpu.wait()?;
    let first = compiled.elapsed().as_secs_f64() * 1e3;
    let startup = opened + begun.elapsed().as_secs_f64() * 1e3;
    if job.has_forward() {
        job.forward()?;
        gpu.wait()?;
    }
    Ok(Measured { job, first, startup, steps: Vec::new(), forward: Vec::new(), profiles: Vec::new() })
}

/// Rounds of one step of each, so that what disturbs the machine disturbs all alike.
fn measure(args: &BenchArgs, gpu: &Gpu, all: &mut [Measured]) -> Result<(), Failure> {
    let bar = ProgressBar::new((args.steps * all.len()) as u64);
    for _ in 0..args.steps {
        for one in all.iter_mut() {
            let begun = Instant::now();
            one.job.step()?;
            gpu.wait()?;
            one.steps.push(begun.elapsed().as_secs_f64() * 1e3);
            if one.job.has_forward() {
                let begun = Instant::now();
                one.job.forward()?;
                gpu.wait()?;
                one.forward.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Rounds of one profiled step of each.
fn take_profiles(all: &mut [Measured]) -> Result<(), Failure> {
    for round in 0..=PROFILED {
        for one in all.iter_mut() {
            let profile = one.job.profile()?;
            if round > 0 {
                one.profiles.push(profile);
            }
        }
    }
    Ok(())
}
