//! Results of `frazil bench`: a row for each workload, and the profile of a step by dispatch and kernel.

use super::job::Variant;
use super::{BenchArgs, Measured, Output};
use frazil::low_level::{Crossing, Peaks, TimedDispatch};
use frazil::{Gpu, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Header of the table of [`Row`]s.
pub const HEAD: &str = "workload                            batch   step ms: median      min      p90   first ms  start ms   \
                        GFLOP/s  useful  avoided       MiB  dispatches  MB a step  minimum";

/// The result of one variant of a workload. Times are in milliseconds.
pub struct Row {
    pub name: String,
    workload: String,
    pub variant: Variant,
    structure: String,
    pub batch: usize,
    steps: usize,
    pub median: f64,
    min: f64,
    p90: f64,
    first: f64,
    startup: f64,
    forward: Option<f64>,
    /// Time of all dispatches, from timestamp queries.
    device: Option<f64>,
    flops: u64,
    /// Share of the work of GEMM tiles that is useful.
    useful_share: Option<f64>,
    flops_avoided: u64,
    bytes: u64,
    dispatches: usize,
    /// Bytes that a step reads and writes, and the least that it needs.
    traffic: [u64; 2],
    /// Step time relative to the variant with nothing frozen.
    pub ratio: Option<Ratio>,
    /// Time of all weight gradients, from timestamp queries.
    weight_gradient: Option<f64>,
    pub weight_gradient_ratio: Option<Ratio>,
    /// Crossing points of all weight gradients; only with --frozen, for the variant with nothing frozen.
    pub crossings: Vec<Crossing>,
    /// Median step time in the file of --compare.
    pub old: Option<f64>,
    adapter: [String; 3],
    software: bool,
    family: String,
}

fn sorted(times: &[f64]) -> Vec<f64> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times
}

/// Returns the quantile `share`, from 0 to 1, of sorted times.
fn quantile(times: &[f64], share: f64) -> f64 {
    let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
    times.get(index).copied().unwrap_or(f64::NAN)
}

fn median(times: &[f64]) -> f64 {
    quantile(&sorted(times), 0.5)
}

/// Median and quartiles of the ratio of two times. Both times of a ratio are from the same iteration, so a
/// disturbance of the machine affects both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Ratio {
    fn new(times: &[f64], base: &[f64]) -> Self {
        let ratios = sorted(&times.iter().zip(base).map(|(time, base)| time / base).collect::<Vec<_>>());
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&ratios, share));
        Ratio { low, median, high }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} [{:.2}, {:.2}]", self.median, self.low, self.high)
    }
}

fn weight_gradients(measured: &Measured) -> Vec<f64> {
    measured.profiles.iter().map(|profile| weight_gradient_ms(profile)).collect()
}

impl Row {
    /// Summarizes the times of a variant; `plain` is the variant with nothing frozen.
    pub fn new(args: &BenchArgs, gpu: &Gpu, measured: &Measured, plain: Option<&Measured>) -> Self {
        let times = sorted(&measured.steps);
        let report = measured.job.report();
        let adapter = gpu.report();
        let plain = plain.filter(|_| measured.job.variant != Variant::Plain);
        let gradients = weight_gradients(measured);
        let timed = args.frozen.is_some() && !gradients.is_empty();
        let device = measured.profiles.iter().map(|profile| profile.iter().map(|d| d.ns / 1e6).sum());
        let device: Vec<f64> = device.collect();
        Row {
            name: measured.job.name(),
            workload: measured.job.workload.to_string(),
            variant: measured.job.variant,
            structure: args.structure.to_string(),
            batch: measured.job.rows,
            steps: measured.steps.len(),
            median: quantile(&times, 0.5),
            min: quantile(&times, 0.0),
            p90: quantile(&times, 0.9),
            first: measured.first,
            startup: measured.startup,
            forward: (!measured.forward.is_empty()).then(|| median(&measured.forward)),
            device: (!device.is_empty()).then(|| median(&device)),
            flops: report.flops(),
            useful_share: report.useful_share(),
            flops_avoided: report.flops_avoided(),
            bytes: report.bytes(),
            dispatches: report.dispatches.len(),
            traffic: [report.traffic(), report.minimum_bytes],
            ratio: plain.map(|p| Ratio::new(&measured.steps, &p.steps)),
            weight_gradient: timed.then(|| median(&gradients)),
            weight_gradient_ratio: plain
                .filter(|_| timed)
                .map(|p| Ratio::new(&gradients, &weight_gradients(p))),
            crossings: Vec::new(),
            old: None,
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
            "device_bytes": self.bytes, "dispatches": self.dispatches,
            "bytes_per_step": self.traffic[0], "minimum_bytes_per_step": self.traffic[1], "adapter": self.adapter[0],
            "driver": self.adapter[1], "backend": self.adapter[2], "software_adapter": self.software,
            "family": self.family, "version": env!("CARGO_PKG_VERSION"),
            "frozen": matches!(self.variant, Variant::Frozen(_) | Variant::Cached(_)),
            "cached": self.variant.is_cached(),
        });
        if let Some(forward) = self.forward {
            object["median_forward_ms"] = forward.into();
        }
        if let Some(ms) = self.device {
            object["median_device_ms"] = ms.into();
            object["device_gflops"] = (self.flops as f64 / ms / 1e6).into();
        }
        if let Some(share) = self.useful_share {
            object["useful_share"] = share.into();
        }
        if let Some(ms) = self.weight_gradient {
            object["weight_gradient_ms"] = ms.into();
        }
        if let Some(ms) = self.old {
            object["old_median_step_ms"] = ms.into();
            object["ratio_to_old"] = (self.median / ms).into();
        }
        if !self.crossings.is_empty() {
            let of = |c: &Crossing| json!({ "operation": c.label, "filters": c.columns, "rows": c.rows, "scattered": c.elements });
            object["crossings"] = self.crossings.iter().map(of).collect();
        }
        if self.variant != Variant::Plain {
            object["frozen_fraction"] = self.variant.fraction().into();
            object["structure"] = self.structure.as_str().into();
            object["control"] = (self.variant == Variant::EmptyMask).into();
        }
        for (name, ratio) in
            [("ratio_to_nothing_frozen", self.ratio), ("weight_gradient_ratio", self.weight_gradient_ratio)]
        {
            if let Some(ratio) = ratio {
                object[name] = ratio.median.into();
                object[format!("{name}_quartiles")] = json!([ratio.low, ratio.high]);
            }
        }
        object
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<34} {:>6}  {:>15.3} {:>8.3} {:>8.3} {:>10.1} {:>9.1} {:>9.1} {:>7} {:>7.1}% {:>9.1} {:>11} {:>10.1} {:>8.1}",
            self.name,
            self.batch,
            self.median,
            self.min,
            self.p90,
            self.first,
            self.startup,
            self.gflops(),
            self.useful_share.map(|share| format!("{:.1}%", 100.0 * share)).unwrap_or_default(),
            100.0 * self.flops_avoided as f64 / (self.flops + self.flops_avoided).max(1) as f64,
            self.bytes as f64 / f64::from(1 << 20),
            self.dispatches,
            self.traffic[0] as f64 / 1e6,
            self.traffic[1] as f64 / 1e6
        )?;
        if let Some(forward) = self.forward {
            write!(f, "  (forward only {forward:.3} ms)")?;
        }
        if let Some(ms) = self.device {
            let tflops = self.flops as f64 / ms / 1e9;
            write!(f, "  (dispatches alone {ms:.3} ms, {tflops:.3} TFLOP/s)")?;
        }
        if let Some(ratio) = self.ratio {
            let control = if self.variant == Variant::EmptyMask { "control, must be 1: " } else { "" };
            write!(f, "  ({control}{ratio} of nothing frozen)")?;
        }
        if let Some(ms) = self.weight_gradient {
            write!(f, "  weight gradients {ms:.3} ms")?;
        }
        if let Some(ratio) = self.weight_gradient_ratio {
            write!(f, " ({ratio})")?;
        }
        Ok(())
    }
}

/// Prints from which frozen share of each kernel on a partial weight gradient is computed; nothing if the row has no
/// crossing points.
pub fn print_crossings(output: &Output, row: &Row) -> Result<()> {
    if row.crossings.is_empty() {
        return Ok(());
    }
    output.text(format!(
        "weight gradients of {} are computed in part from this frozen share on, by the cost model:",
        row.workload
    ))?;
    output.text(format!("  {:<40} {:>9} {:>9} {:>9}", "operation", "filters", "rows", "scattered"))?;
    for crossing in &row.crossings {
        let [filters, rows, scattered] = [crossing.columns, crossing.rows, crossing.elements]
            .map(|share| share.map_or("never".to_owned(), |share| format!("{:.2} %", 100.0 * share)));
        output.text(format!("  {:<40} {filters:>9} {rows:>9} {scattered:>9}", crossing.label))?;
    }
    Ok(())
}

/// The last profile with the time of each dispatch replaced by its mean over all profiles.
pub fn mean_profile(profiles: &[Vec<TimedDispatch>]) -> Vec<TimedDispatch> {
    let mut result = profiles.last().cloned().unwrap_or_default();
    for (index, dispatch) in result.iter_mut().enumerate() {
        let times = profiles.iter().filter_map(|profile| profile.get(index));
        dispatch.ns = times.map(|d| d.ns).sum::<f64>() / profiles.len() as f64;
    }
    result
}

/// Returns the total time in milliseconds of all weight gradients in a profile.
fn weight_gradient_ms(profile: &[TimedDispatch]) -> f64 {
    let of = profile.iter().filter(|d| d.label.ends_with(" grad_kernel"));
    of.map(|d| d.ns / 1e6).sum()
}

/// Prints the time of each dispatch of a step, then the sum for each kernel, with its rates beside the device's peaks.
pub fn print_profile(output: &Output, name: &str, step: &[TimedDispatch], peaks: &Peaks) -> Result<()> {
    let total: f64 = step.iter().map(|d| d.ns).sum();
    let mut kernels: BTreeMap<&str, (usize, f64, u64, u64)> = BTreeMap::new();
    output.text(format!(
        "{:<26} {:<16} {:<28} {:>9} {:>7} {:>9} {:>7} {:>8}",
        "operation", "algorithm", "kernel", "ms", "share", "GFLOP/s", "GB/s", "of peak"
    ))?;
    for d in step {
        output.text(line(&d.label, &algorithm(d), d.kernel, [d.ns, total], [d.flops, d.bytes], peaks))?;
        output.json(&json!({
            "workload": name, "operation": d.label, "algorithm": d.algorithm.map(|a| a.to_string()), "kernel": d.kernel, "ms": d.ns / 1e6, "share": d.ns / total,
            "gflops": d.flops as f64 / d.ns, "gbytes_per_s": d.bytes as f64 / d.ns,
            "share_of_peak": share_of_peak(d.ns, [d.flops, d.bytes], peaks),
        }))?;
        let entry = kernels.entry(d.kernel).or_default();
        *entry = (entry.0 + 1, entry.1 + d.ns, entry.2 + d.flops, entry.3 + d.bytes);
    }
    for (kernel, (count, ns, flops, bytes)) in kernels {
        let label = format!("all {count}");
        output.text(line(&label, "", kernel, [ns, total], [flops, bytes], peaks))?;
        output.json(&json!({
            "workload": name, "operation": "all", "dispatches": count, "kernel": kernel, "ms": ns / 1e6, "share": ns / total,
            "gflops": flops as f64 / ns, "gbytes_per_s": bytes as f64 / ns,
            "share_of_peak": share_of_peak(ns, [flops, bytes], peaks),
        }))?;
    }
    output.text(format!("{:<26} {:<16} {:<28} {:>9.3}", "step", "", "", total / 1e6))
}

/// The larger of the shares of the two peaks that a kernel reaches: what it cannot exceed, unless caches serve it.
fn share_of_peak(ns: f64, [flops, bytes]: [u64; 2], peaks: &Peaks) -> f64 {
    let [flops, bytes] = [flops as f64 / ns / peaks.gflops, bytes as f64 / ns / peaks.gbytes_per_s];
    flops.max(bytes)
}

fn algorithm(dispatch: &TimedDispatch) -> String {
    dispatch.algorithm.map(|algorithm| algorithm.to_string()).unwrap_or_default()
}

fn line(
    label: &str,
    algorithm: &str,
    kernel: &str,
    [ns, total]: [f64; 2],
    [flops, bytes]: [u64; 2],
    peaks: &Peaks,
) -> String {
    format!(
        "{label:<26} {algorithm:<16} {kernel:<28} {:>9.3} {:>6.1}% {:>9.1} {:>7.1} {:>7.1}%",
        ns / 1e6,
        100.0 * ns / total,
        flops as f64 / ns,
        bytes as f64 / ns,
        100.0 * share_of_peak(ns, [flops, bytes], peaks)
    )
}
