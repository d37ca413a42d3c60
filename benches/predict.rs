//! Predicts the time of a training step on GPUs from their published peaks; needs no GPU.
//!
//! Run with `cargo bench --bench predict`. A dispatch takes the longer of two times: its multiply-adds, those of
//! empty rows and columns of tiles included, at the share of peak that the instructions of the main loop allow, and
//! its bytes at the peak of the memory. Caches are left out. The time between dispatches is added.

use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::low_level::{Plan, PlanOptions, UpdateRule};
use frazil::{Loss, Model};

/// A GPU: its name, kind, peak f32 TFLOP/s, GB/s, share of the peak in GEMMs, and us between dispatches.
struct Device(&'static str, DeviceKind, f64, f64, f64, f64);

/// The share is that of multiply-adds in the main loops (docs/benchmarks.md, "Instruction sets"): for NVIDIA of the
/// 64x64 tile, for the others an assumption. The shortest dispatches of an H200 take 6 us.
const DEVICES: [Device; 4] = [
    Device("RTX 4090", DeviceKind::Discrete, 82.6, 1008.0, 0.63, 6.0),
    Device("H100 (SXM)", DeviceKind::Discrete, 66.9, 3350.0, 0.63, 6.0),
    Device("Apple M3 (10 cores)", DeviceKind::Integrated, 3.6, 100.0, 0.6, 4.0),
    Device("Iris Xe (96 EU)", DeviceKind::Integrated, 2.0, 68.0, 0.6, 5.0),
];

const WORKLOADS: [(&str, usize); 4] = [("digits", 64), ("cifar", 64), ("resnet20", 64), ("resnet50", 4)];

fn main() -> frazil::Result<()> {
    println!("| workload, batch | {} |", DEVICES.map(|device| device.0).join(" | "));
    println!("|---|{}", "---|".repeat(DEVICES.len()));
    for (name, batch) in WORKLOADS {
        let mut row = format!("| `{name}`, {batch}");
        for Device(_, kind, tflops, gigabytes, share, gap) in DEVICES {
            let mut report = AdapterReport::new("predicted", Backend::Vulkan, kind);
            (report.max_buffer, report.max_binding) = (1 << 31, 1 << 31);
            let rule = UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-4 };
            let graph = Model::named(name)?.training_graph(batch, Loss::SoftmaxCrossEntropy, rule)?.graph;
            let plan = Plan::estimate(&graph, &report, &PlanOptions::default())?;
            let (mut compute, mut memory, mut longer) = (0.0, 0.0, 0.0);
            for dispatch in &plan.dispatches {
                let flops = dispatch.flops.max(dispatch.tile_flops) as f64;
                let multiply = flops / (tflops * 1e6 * share);
                let transfer = (dispatch.bytes_read + dispatch.bytes_written) as f64 / (gigabytes * 1e3);
                compute += multiply;
                memory += transfer;
                longer += f64::max(multiply, transfer);
            }
            let gaps = gap * plan.dispatches.len() as f64;
            let ms = |us: f64| us / 1e3;
            row += &format!(
                " | {:.2} ({:.2}, {:.2}, {:.2})",
                ms(longer + gaps),
                ms(compute),
                ms(memory),
                ms(gaps)
            );
        }
        println!("{row} |");
    }
    Ok(())
}
