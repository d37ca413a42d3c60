//! `frazil bench`: measures the time of training steps and of single kernels.

mod chart;
mod compare;
mod job;
mod report;
mod trace;
mod workload;

use super::optimizer_args::Rule;
use super::output::{self, Output};
use super::{DeviceArgs, Failure, at_least_one, usage};
use chart::Chart;
use clap::{Args, ValueEnum};
use compare::Old;
use frazil::low_level::{GemmFamily, Winograd};
use frazil::low_level::{TimedDispatch, peaks};
use frazil::{Error, Gpu, Optimizer};
use indicatif::ProgressBar;
use job::{Job, Variant};
use report::Row;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trace::Trace;
use workload::Workload;

#[derive(Args)]
pub struct BenchArgs {
    /// Workload: a model of `frazil train --model` (its training steps; with -gradients, as in resnet50-gradients,
    /// without the optimizer), conv-layer, conv-llama (the convolutions
    /// that llama.cpp measures), gemm-N, update-N, published (resnet50 and conv-llama, of which others have
    /// published times) or all; may be repeated.
    #[arg(long, default_value = "all", value_name = "NAME")]
    workload: Vec<String>,
    /// Batch size [default: 64, 16 for conv-layer, 4 for resnet50]; conv-llama has its own.
    #[arg(long)]
    batch: Option<usize>,
    /// Number of steps measured for each workload, after the first.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Freeze this fraction of each layer's kernel except the last, and measure the step time relative to
    /// nothing frozen. Also measures empty masks as a control, whose ratio must be 1.
    #[arg(long, value_name = "FRACTION")]
    frozen: Option<f64>,
    /// Which elements are frozen.
    #[arg(long, value_enum, default_value = "scattered")]
    structure: Structure,
    /// Also measure steps on cached outputs of the frozen lowest layers; requires --structure layers.
    #[arg(long, requires = "frozen")]
    cache_prefix: bool,
    /// Update rule.
    #[arg(long, value_enum, default_value = "sgd")]
    optimizer: Rule,
    /// GEMM family: register, subgroup4, subgroup8, tiled-small, tiled-large, tiled-64x32 and so
    /// on for one tile, or for cooperative matrices
    /// cooperative8x8, cooperative16x32 and so on, with -f16 if operands are stored in f16
    /// [default: by adapter].
    #[arg(long)]
    family: Option<GemmFamily>,
    /// Algorithm of 3x3 and 5x5 convolutions of stride 1: auto, direct, winograd or winograd-fused (3x3 in one
    /// kernel, for GPUs; slower than GEMMs on an H200).
    #[arg(long, default_value = "auto")]
    algorithm: Winograd,
    /// Print the time of each dispatch, from timestamp queries.
    #[arg(long)]
    profile: bool,
    /// Write one step of each workload to FILE as a Chrome trace, for Perfetto.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Draw the time of each step by layer and kernel as SVG; with --frozen, also the step time at other
    /// fractions.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print the ratio of each median to that in FILE, JSON lines of an earlier call on this adapter.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Exit with 1 if a ratio is above this one; requires --compare.
    #[arg(long, value_name = "RATIO", requires = "compare")]
    fail_above: Option<f64>,
    /// Print JSON lines.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Which elements of a layer are frozen.
#[derive(Clone, Copy, ValueEnum)]
pub enum Structure {
    /// Elements at random.
    Scattered,
    /// Entire output channels.
    Filters,
    /// Entire rows of the kernel as a matrix: (kernel row, kernel column, input channel).
    Rows,
    /// The lowest convolutions, entirely.
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
    /// The optimizer, with a learning rate so low that no workload diverges: a non-finite loss would skip
    /// updates.
    fn optimizer(&self) -> frazil::Result<Optimizer> {
        self.optimizer.optimizer(0.001)
    }

    /// Returns the variants of a workload, which are measured alternately. Ratios are relative to the first.
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

/// Frozen fractions of the curve in the SVG chart, in addition to 0 (the empty mask).
const CURVE: [f64; 5] = [0.25, 0.5, 0.75, 0.9, 0.99];

/// Number of profiled steps of each workload, after one for warm-up.
const PROFILED: usize = 5;

/// A variant of a workload and its times in milliseconds.
struct Measured {
    job: Job,
    /// Time of the first step.
    first: f64,
    /// Time from the start of the process to the end of the first step, without the time of other workloads.
    startup: f64,
    steps: Vec<f64>,
    forward: Vec<f64>,
    profiles: Vec<Vec<TimedDispatch>>,
}

pub fn run(args: &BenchArgs, begun: Instant) -> Result<(), Failure> {
    usage(at_least_one("--steps", args.steps as u64))?;
    usage(at_least_one("--batch", args.batch.unwrap_or(1) as u64))?;
    let workloads = workloads(args)?;
    if let Some(limit) = args.fail_above.filter(|limit| !(limit.is_finite() && *limit > 0.0)) {
        return usage(Err(invalid("--fail-above", "a ratio above 0", limit)));
    }
    let output = Output::new(args.json);
    let cooperative = matches!(args.family, Some(GemmFamily::Cooperative { .. }));
    let gpu = Gpu::new(args.device.options().cooperative_matrix(cooperative))?;
    let opened = begun.elapsed().as_secs_f64() * 1e3;
    let report = gpu.report();
    let needs_timestamps = args.profile || args.trace.is_some() || args.svg.is_some();
    if needs_timestamps && !report.timestamps {
        let got = format!("{} without", report.name);
        let expected =
            "an adapter with timestamp queries; measure without them, or choose another with --adapter";
        return usage(Err(invalid("--profile, --trace and --svg", expected, got)));
    }
    // Fails early if the comparison is not possible, because the measurements may take minutes.
    let old = match &args.compare {
        Some(file) => {
            let old = Old::read(file, &report.name)?;
            old.check(&workloads.iter().map(|w| (*w, w.batch(args.batch))).collect::<Vec<_>>())?;
            Some(old)
        }
        None => None,
    };
    // Fails early if an output file cannot be written, because the measurements may take minutes.
    for path in args.trace.iter().chain(&args.svg) {
        write(path, "")?;
    }
    let software = if report.software { ", a software adapter: not representative of hardware" } else { "" };
    output.text(format!("adapter: {} ({}{software}), {}", report.name, report.backend, report.driver))?;
    let peaks = args.profile.then(|| peaks(&gpu)).transpose()?;
    if let Some(peaks) = &peaks {
        let [gflops, gbytes] = [peaks.gflops, peaks.gbytes_per_s];
        output.text(format!("peaks: {gflops:.1} GFLOP/s in f32, {gbytes:.1} GB/s of copies"))?;
        let adapter = &report.name;
        output.json(
            &json!({ "operation": "peaks", "adapter": adapter, "gflops": gflops, "gbytes_per_s": gbytes }),
        )?;
    } else {
        output.text(report::HEAD)?;
    }
    let mut trace = Trace::default();
    let mut charts = Vec::new();
    let mut compared = Vec::new();
    for &workload in &workloads {
        let mut all = Vec::new();
        for variant in args.variants() {
            match first_step(args, &gpu, workload, variant, opened) {
                // The largest convolutions do not fit every adapter; the others are measured.
                Err(Failure::Failed(error @ (Error::LimitExceeded { .. } | Error::OutOfMemory { .. })))
                    if workloads.len() > 1 && matches!(workload, Workload::Convolution(_)) =>
                {
                    output::message(format_args!("frazil: {workload} is left out: {error}"));
                }
                first => all.push(first?),
            }
        }
        if all.is_empty() {
            continue;
        }
        measure(args, &gpu, &mut all)?;
        // The host's time of a short convolution is mostly that of the submission.
        let timed = args.frozen.is_some() || matches!(workload, Workload::Convolution(_));
        if needs_timestamps || (timed && report.timestamps) {
            take_profiles(&mut all)?;
        }
        let mut rows = Vec::new();
        for one in &all {
            let mut row = Row::new(args, &gpu, one, all.first());
            row.old = old.as_ref().map(|old| old.median(&row)).transpose()?;
            if args.frozen.is_some() && row.variant == Variant::Plain {
                row.crossings = one.job.crossings(&gpu, args)?;
            }
            output.text(&row)?;
            output.json(&row.json())?;
            rows.push(row);
        }
        if let Some(row) = rows.first() {
            report::print_crossings(&output, row)?;
        }
        for one in &all {
            if let Some(peaks) = &peaks {
                report::print_profile(&output, &one.job.name(), &report::mean_profile(&one.profiles), peaks)?;
            }
            if let (Some(_), Some(step)) = (&args.trace, one.profiles.last()) {
                trace.add(&one.job.name(), step);
            }
        }
        if let (Some(_), Some(first)) = (&args.svg, all.first()) {
            charts.push(Chart::new(&first.job, &report::mean_profile(&first.profiles), &rows));
        }
        compared.extend(rows);
    }
    if let Some(path) = &args.trace {
        write(path, &trace.json(report).to_string())?;
    }
    if let Some(path) = &args.svg {
        write(path, &chart::svg(report, args.structure, &charts)?)?;
    }
    let slower = match &old {
        Some(old) => compare::print(&output, old, &compared, args.fail_above)?,
        None => Vec::new(),
    };
    if slower.is_empty() {
        return Ok(());
    }
    let limit = args.fail_above.unwrap_or(f64::INFINITY);
    Err(Failure::Verdict(format!("above {limit} times the old time: {}", slower.join(", "))))
}

fn workloads(args: &BenchArgs) -> Result<Vec<Workload>, Failure> {
    let parsed = args.workload.iter().map(|name| usage(Workload::parse(name)));
    let workloads = parsed.collect::<Result<Vec<_>, _>>()?.concat();
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

/// Compiles a workload and runs its first step. `opened` is the time in milliseconds from the start of the
/// process to an open device.
fn first_step(
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

/// Time that a GPU works before the first measured step. An idle one lowers its clock (an H200 from 1,980 to 345 MHz)
/// and raises it again only after some time under load.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures one step of each variant in each iteration, so that disturbances of the machine affect all
/// variants alike.
fn measure(args: &BenchArgs, gpu: &Gpu, all: &mut [Measured]) -> Result<(), Failure> {
    let begun = Instant::now();
    while !gpu.report().software && begun.elapsed() < WARM_UP {
        all.iter_mut().try_for_each(|one| one.job.step())?;
    }
    gpu.wait()?;
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

/// Profiles one step of each variant in each iteration.
fn take_profiles(all: &mut [Measured]) -> Result<(), Failure> {
    for iteration in 0..=PROFILED {
        for one in all.iter_mut() {
            let profile = one.job.profile()?;
            if iteration > 0 {
                one.profiles.push(profile);
            }
        }
    }
    Ok(())
}
