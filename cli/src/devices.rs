//! `frazil devices`: lists the adapters of this machine.

use super::Failure;
use super::output::Output;
use clap::Args;
use frazil::gpu::{AdapterReport, devices};
use frazil::low_level::GemmFamily;
use frazil::{Gpu, GpuOptions};
use serde_json::json;

#[derive(Args)]
pub struct DevicesArgs {
    /// Print JSON lines: an object for each adapter.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DevicesArgs) -> Result<(), Failure> {
    let output = Output::new(args.json);
    let all = devices();
    if all.is_empty() {
        // Fails, with advice for this system.
        Gpu::new(GpuOptions::default())?;
    }
    output.text(format!(
        "{:>2}  {:<40} {:<7} {:<10} {:<9} {:<11} {:<16} {:>8}  {:<34} {}",
        "#",
        "adapter",
        "backend",
        "kind",
        "subgroup",
        "gemm",
        "cooperative",
        "binding",
        "shader compiler",
        "driver"
    ))?;
    for (index, report) in all.iter().enumerate() {
        output.text(row(index, report))?;
        output.json(&json!({
            "index": index,
            "adapter": report.name,
            "driver": report.driver,
            "backend": report.backend.to_string(),
            "shader_compiler": report.shader_compiler.to_string(),
            "kind": report.kind.to_string(),
            "software_adapter": report.software,
            "subgroup": report.subgroup,
            "timestamps": report.timestamps,
            "gemm_family": GemmFamily::choose(report).to_string(),
            "cooperative_family": GemmFamily::cooperative(report).map(|family| family.to_string()),
            "max_buffer_bytes": report.max_buffer,
            "max_binding_bytes": report.max_binding,
            "max_storage_buffers": report.max_storage_buffers,
            "max_workgroup_memory_bytes": report.max_workgroup_memory,
            "max_invocations": report.max_invocations,
        }))?;
    }
    Ok(())
}

fn row(index: usize, report: &AdapterReport) -> String {
    let subgroup = report.subgroup.map_or("none".to_owned(), |[min, max]| {
        if min == max { min.to_string() } else { format!("{min}..{max}") }
    });
    let cooperative = GemmFamily::cooperative(report).map_or("none".to_owned(), |family| family.to_string());
    format!(
        "{index:>2}  {:<40} {:<7} {:<10} {subgroup:<9} {:<11} {cooperative:<16} {:>4} MiB  {:<34} {}",
        report.name,
        report.backend,
        report.kind,
        GemmFamily::choose(report).to_string(),
        report.max_binding >> 20,
        report.shader_compiler.to_string(),
        report.driver
    )
}
