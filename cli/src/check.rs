//! `frazil check`: runs every kernel on an adapter and compares the results with the f64 reference.

use super::output::Output;
use super::{DeviceArgs, Failure};
use clap::Args;
use frazil::conformance::{self, Outcome};
use frazil::low_level::GemmFamily;
use frazil::{Error, Gpu, Result};
use indicatif::ProgressBar;
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Args)]
pub struct CheckArgs {
    /// Test only this GEMM family; may be repeated [default: all families that the adapter supports].
    #[arg(long)]
    family: Vec<GemmFamily>,
    /// Print JSON lines: an object for each kernel, then the verdict.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Results of all cases that run one kernel.
#[derive(Default)]
struct Tally {
    runs: usize,
    failed: Vec<String>,
    worst: f64,
}

pub fn run(args: &CheckArgs) -> std::result::Result<(), Failure> {
    let output = Output::new(args.json);
    let gpu = Gpu::new(args.device.options().cooperative_matrix(true))?;
    let report = gpu.report();
    output.text(format!("adapter: {} ({}), {}", report.name, report.backend, report.driver))?;
    output.text(format!("shader compiler: {}", report.shader_compiler))?;
    if let Some(family) = args.family.iter().find(|family| !family.is_supported(report)) {
        let supported: Vec<_> = GemmFamily::supported(report).iter().map(ToString::to_string).collect();
        let expected = format!("a family that {} supports ({})", report.name, supported.join(", "));
        return super::usage(Err(Error::InvalidArgument {
            at: "--family".to_owned(),
            expected,
            got: family.to_string(),
        }));
    }
    let tallies = run_suite(&gpu, &args.family)?;

    output.text(format!("{:<28} {:>6}  {:>22}  {}", "kernel", "runs", "max error / bound", "verdict"))?;
    for (kernel, tally) in &tallies {
        let verdict = if tally.failed.is_empty() { "pass" } else { "FAIL" };
        output.text(format!("{kernel:<28} {:>6}  {:>22.3}  {verdict}", tally.runs, tally.worst))?;
        output.json(&json!({
            "kernel": kernel, "runs": tally.runs, "failed": tally.failed.len(), "worst_of_bound": tally.worst,
            "passed": tally.failed.is_empty(),
        }))?;
    }
    let failed: Vec<_> = tallies.values().flat_map(|t| &t.failed).collect();
    for message in &failed {
        output.text(message)?;
    }
    let verdict =
        if failed.is_empty() { "every kernel agrees with the reference" } else { "this adapter fails" };
    output.text(verdict)?;
    output.json(&json!({
        "done": true, "passed": failed.is_empty(), "failures": failed, "adapter": report.name, "driver": report.driver,
        "backend": report.backend.to_string(), "shader_compiler": report.shader_compiler.to_string(),
        "software_adapter": report.software,
    }))?;
    if failed.is_empty() {
        return Ok(());
    }
    let wrong = tallies.values().filter(|tally| !tally.failed.is_empty()).count();
    Err(Failure::Verdict(format!("{wrong} of {} kernels are wrong on {}", tallies.len(), report.name)))
}

/// Runs the conformance suite in the families of `only`, or in all that the adapter supports.
fn run_suite(gpu: &Gpu, only: &[GemmFamily]) -> Result<BTreeMap<String, Tally>> {
    let runs = conformance::run(gpu, only)?;
    let bar = ProgressBar::new(runs.len() as u64);
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for outcome in runs {
        count(&mut tallies, &outcome?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(tallies)
}

fn count(tallies: &mut BTreeMap<String, Tally>, outcome: &Outcome) {
    for kernel in &outcome.kernels {
        let tally = tallies.entry(kernel.to_string()).or_default();
        tally.runs += 1;
        tally.worst = tally.worst.max(outcome.worst_error);
        if !outcome.passed() {
            tally.failed.push(outcome.to_string());
        }
    }
}
