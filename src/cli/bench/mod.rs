//! `frazil bench`

mod job;
mod table;

use super::output::Output;
use super::{DeviceArgs, Failure, usage};
use clap::{Args, ValueEnum};
use frazil::graph::UpdateRule;
use frazil::kernels::GemmFamily;
use frazil::{Adam, AdamW, Error, Gpu, Optimizer, Sgd};
use indicatif::ProgressBar;
use job::{Job, Workload};
use std::time::Instant;
use table::Row;

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
    /// Freeze this fraction of every layer but the last, and compare with nothing frozen.
    #[arg(long, value_name = "FRACTION")]
    frozen: Option<f64>,
    /// Which elements that fraction is.
    #[arg(long, value_enum, default_value = "scattered")]
    structure: Structure,
    /// The rule of the updates.
    #[arg(long, value_enum, default_value = "sgd")]
    optimizer: Rule,
    /// How matrices are multiplied: register, subgroup4, subgroup8, tiled-small, tiled-large [default: what suits the adapter].
    #[arg(long, value_parser = |text: &str| GemmFamily::parse(text).map_err(|e| e.to_string()))]
    family: Option<GemmFamily>,
    /// Also time every kernel by the device's clock.
    #[arg(long)]
    profile: bool,
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

#[derive(Clone, Copy, ValueEnum)]
enum Rule {
    Sgd,
    Adam,
    Adamw,
}

impl Rule {
    fn optimizer(self) -> Optimizer {
        match self {
            Rule::Sgd => Sgd::new(0.01).momentum(0.9).into(),
            Rule::Adam => Adam::new(0.001).into(),
            Rule::Adamw => AdamW::new(0.001).into(),
        }
    }

    fn update(self) -> UpdateRule {
        *self.optimizer().rule()
    }
}

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
    frozen: bool,
    first: f64,
    startup: f64,
    steps: Vec<f64>,
    forward: Vec<f64>,
}

pub fn run(args: &BenchArgs, begun: Instant) -> Result<(), Failure> {
    if args.steps == 0 || args.batch == Some(0) {
        return usage(Err(Error::EmptyBatch { at: "--steps and --batch".to_owned() }));
    }
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
    let output = Output::new(args.json);
    let gpu = Gpu::new(args.device.options())?;
    let opened = begun.elapsed().as_secs_f64() * 1e3;
    let report = gpu.report();
    let software =
        if report.software { ", a software adapter: its times rank nothing on hardware" } else { "" };
    output.text(format!("adapter: {} ({}{software}), {}", report.name, report.backend, report.driver))?;
    if !args.profile {
        output.text(table::HEAD)?;
    }
    for workload in workloads {
        let mut all = vec![begin(args, &gpu, workload, None, opened)?];
        if let Some(fraction) = args.frozen {
            all.push(begin(args, &gpu, workload, Some(fraction), opened)?);
        }
        measure(args, &gpu, &mut all)?;
        for one in &all {
            let row = Row::new(&gpu, one, all.first().filter(|_| one.frozen));
            output.text(&row)?;
            output.json(&row.json())?;
        }
        if args.profile {
            for one in &mut all {
                table::profile(&output, &mut one.job)?;
            }
        }
    }
    Ok(())
}

fn invalid(at: &str, expected: &str, got: impl ToString) -> Error {
    Error::InvalidArgument { at: at.to_owned(), expected: expected.to_owned(), got: got.to_string() }
}

/// Compiles a workload and makes its first step. `opened`: milliseconds from the start of the process to an open device.
fn begin(
    args: &BenchArgs,
    gpu: &Gpu,
    workload: Workload,
    frozen: Option<f64>,
    opened: f64,
) -> Result<Measured, Failure> {
    let begun = Instant::now();
    let mut job = Job::new(gpu, args, workload, frozen)?;
    let compiled = Instant::now();
    job.step()?;
    gpu.wait()?;
    let first = compiled.elapsed().as_secs_f64() * 1e3;
    let startup = opened + begun.elapsed().as_secs_f64() * 1e3;
    if job.has_forward() {
        job.forward()?;
        gpu.wait()?;
    }
    Ok(Measured { job, frozen: frozen.is_some(), first, startup, steps: Vec::new(), forward: Vec::new() })
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
