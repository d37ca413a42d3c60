//! A step by its dispatches.

use super::Output;
use frazil::Result;
use frazil::engine::TimedDispatch;
use serde_json::json;
use std::collections::BTreeMap;

/// The last profile, each dispatch with its mean time over all.
pub fn mean(profiles: &[Vec<TimedDispatch>]) -> Vec<TimedDispatch> {
    let mut result = profiles.last().cloned().unwrap_or_default();
    for (index, dispatch) in result.iter_mut().enumerate() {
        let times = profiles.iter().filter_map(|profile| profile.get(index));
        dispatch.ns = times.map(|d| d.ns).sum::<f64>() / profiles.len() as f64;
    }
    result
}

/// Milliseconds of all weight gradients.
pub fn weight_gradient_ms(profile: &[TimedDispatch]) -> f64 {
    let of = profile.iter().filter(|d| d.label.ends_with(" grad_kernel"));
    of.map(|d| d.ns / 1e6).sum()
}

/// Every dispatch of a step by the device's clock, then each kernel's share.
pub fn print(output: &Output, name: &str, step: &[TimedDispatch]) -> Result<()> {
    let total: f64 = step.iter().map(|d| d.ns).sum();
    let mut kernels: BTreeMap<&str, (usize, f64, u64, u64)> = BTreeMap::new();
    output.text(format!(
        "{:<26} {:<16} {:<28} {:>9} {:>7} {:>9} {:>7}",
        "operation", "algorithm", "kernel", "ms", "share", "GFLOP/s", "GB/s"
    ))?;
    for d in step {
        output.text(line(&d.label, &algorithm(d), d.kernel, d.ns, total, d.flops, d.bytes))?;
        output.json(&json!({
            "workload": name, "operation": d.label, "algorithm": d.algorithm.map(|a| a.to_string()), "kernel": d.kernel, "ms": d.ns / 1e6, "share": d.ns / total,
            "gflops": d.flops as f64 / d.ns, "gbytes_per_s": d.bytes as f64 / d.ns,
        }))?;
        let entry = kernels.entry(d.kernel).or_default();
        *entry = (entry.0 + 1, entry.1 + d.ns, entry.2 + d.flops, entry.3 + d.bytes);
    }
    for (kernel, (count, ns, flops, bytes)) in kernels {
        output.text(line(&format!("all {count}"), "", kernel, ns, total, flops, bytes))?;
    }
    output.text(format!("{:<26} {:<16} {:<28} {:>9.3}", "step", "", "", total / 1e6))
}

fn algorithm(dispatch: &TimedDispatch) -> String {
    dispatch.algorithm.map(|algorithm| algorithm.to_string()).unwrap_or_default()
}

fn line(label: &str, algorithm: &str, kernel: &str, ns: f64, total: f64, flops: u64, bytes: u64) -> String {
    format!(
        "{label:<26} {algorithm:<16} {kernel:<28} {:>9.3} {:>6.1}% {:>9.1} {:>7.1}",
        ns / 1e6,
        100.0 * ns / total,
        flops as f64 / ns,
        bytes as f64 / ns
    )
}
