//! Results for people and for machines.

use super::job::Job;
use super::{Measured, Output};
use frazil::{Gpu, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

pub const HEAD: &str = "workload            batch   step ms: median      min      p90   first ms  start ms   GFLOP/s  \
                        avoided       MiB  dispatches";

/// One line of the table.
pub struct Row {
    workload: String,
    batch: usize,
    steps: usize,
    median: f64,
    min: f64,
    p90: f64,
    first: f64,
    startup: f64,
    forward: Option<f64>,
    flops: u64,
    flops_avoided: u64,
    bytes: u64,
    dispatches: usize,
    frozen: bool,
    /// This median over that of nothing frozen.
    ratio: Option<f64>,
    adapter: [String; 3],
    software: bool,
    family: String,
}

fn sorted(times: &[f64]) -> Vec<f64> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times
}

/// The time below which this share of the sorted times lies.
fn quantile(times: &[f64], share: f64) -> f64 {
    let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
    times.get(index).copied().unwrap_or(f64::NAN)
}

impl Row {
    pub fn new(gpu: &Gpu, measured: &Measured, plain: Option<&Measured>) -> Self {
        let times = sorted(&measured.steps);
        let report = measured.job.report();
        let median = quantile(&times, 0.5);
        let plain_flops = plain.map_or(report.flops(), |p| p.job.report().flops());
        let adapter = gpu.report();
        Row {
            workload: measured.job.workload.to_string(),
            batch: measured.job.rows,
            steps: measured.steps.len(),
            median,
            min: quantile(&times, 0.0),
            p90: quantile(&times, 0.9),
            first: measured.first,
            startup: measured.startup,
            forward: (!measured.forward.is_empty()).then(|| quantile(&sorted(&measured.forward), 0.5)),
            flops: report.flops(),
            flops_avoided: plain_flops.saturating_sub(report.flops()),
            bytes: report.bytes(),
            dispatches: report.dispatches.len(),
            frozen: measured.frozen,
            ratio: plain.map(|p| median / quantile(&sorted(&p.steps), 0.5)),
            adapter: [adapter.name.clone(), adapter.driver.clone(), adapter.backend.to_string()],
            software: adapter.software,
            family: report.family.clone(),
        }
    }

    fn gflops(&self) -> f64 {
        self.flops as f64 / self.median / 1e6
    }

    pub fn json(&self) -> Value {
        let mut object = json!({
            "workload": self.workload, "batch": self.batch, "steps": self.steps, "median_step_ms": self.median,
            "min_step_ms": self.min, "p90_ms": self.p90, "first_step_ms": self.first,
            "total_startup_ms": self.startup, "gflops": self.gflops(), "flops_avoided": self.flops_avoided,
            "device_bytes": self.bytes, "dispatches": self.dispatches, "adapter": self.adapter[0],
            "driver": self.adapter[1], "backend": self.adapter[2], "software_adapter": self.software,
            "family": self.family, "version": env!("CARGO_PKG_VERSION"), "frozen": self.frozen,
        });
        if let (Some(forward), Some(map)) = (self.forward, object.as_object_mut()) {
            map.insert("median_forward_ms".into(), forward.into());
        }
        if let (Some(ratio), Some(map)) = (self.ratio, object.as_object_mut()) {
            map.insert("ratio_to_nothing_frozen".into(), ratio.into());
        }
        object
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{}{}", self.workload, if self.frozen { ", frozen" } else { "" });
        write!(
            f,
            "{name:<18} {:>6}  {:>15.3} {:>8.3} {:>8.3} {:>10.1} {:>9.1} {:>9.1} {:>8.1}% {:>9.1} {:>11}",
            self.batch,
            self.median,
            self.min,
            self.p90,
            self.first,
            self.startup,
            self.gflops(),
            100.0 * self.flops_avoided as f64 / (self.flops + self.flops_avoided).max(1) as f64,
            self.bytes as f64 / f64::from(1 << 20),
            self.dispatches
        )?;
        if let Some(forward) = self.forward {
            write!(f, "  (forward alone {forward:.3} ms)")?;
        }
        if let Some(ratio) = self.ratio {
            write!(f, "  ({ratio:.2} of nothing frozen)")?;
        }
        Ok(())
    }
}

/// Steps whose times are averaged in a profile.
const PROFILED: usize = 5;

/// Every dispatch of a step by the device's clock, then each kernel's share.
pub fn profile(output: &Output, job: &mut Job) -> Result<()> {
    let mut sums: Vec<f64> = Vec::new();
    let mut last = Vec::new();
    for _ in 0..PROFILED {
        last = job.profile()?;
        sums.resize(last.len(), 0.0);
        sums.iter_mut().zip(&last).for_each(|(sum, dispatch)| *sum += dispatch.ns / PROFILED as f64);
    }
    let total: f64 = sums.iter().sum();
    let mut kernels: BTreeMap<&str, (usize, f64, u64, u64)> = BTreeMap::new();
    output.text(format!(
        "{:<26} {:<28} {:>9} {:>7} {:>9} {:>7}",
        "operation", "kernel", "ms", "share", "GFLOP/s", "GB/s"
    ))?;
    for (dispatch, &ns) in last.iter().zip(&sums) {
        output.text(line(&dispatch.label, dispatch.kernel, ns, total, dispatch.flops, dispatch.bytes))?;
        output.json(&json!({
            "workload": job.workload.to_string(), "operation": dispatch.label, "kernel": dispatch.kernel,
            "ms": ns / 1e6, "share": ns / total, "gflops": dispatch.flops as f64 / ns, "gbytes_per_s": dispatch.bytes as f64 / ns,
        }))?;
        let entry = kernels.entry(dispatch.kernel).or_default();
        *entry = (entry.0 + 1, entry.1 + ns, entry.2 + dispatch.flops, entry.3 + dispatch.bytes);
    }
    for (kernel, (count, ns, flops, bytes)) in kernels {
        output.text(line(&format!("all {count}"), kernel, ns, total, flops, bytes))?;
    }
    output.text(format!("{:<26} {:<28} {:>9.3}", "step", "", total / 1e6))
}

fn line(label: &str, kernel: &str, ns: f64, total: f64, flops: u64, bytes: u64) -> String {
    format!(
        "{label:<26} {kernel:<28} {:>9.3} {:>6.1}% {:>9.1} {:>7.1}",
        ns / 1e6,
        100.0 * ns / total,
        flops as f64 / ns,
        bytes as f64 / ns
    )
}
