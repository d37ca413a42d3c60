//! Times of single kernels: GEMM and convolutions with their gradients by GEMM family, pooling, masked
//! updates.
//!
//! Run with `cargo bench --bench kernels`; `-- --light` runs one short iteration.

#![allow(clippy::expect_used)]

mod graphs;
mod timer;

use frazil::low_level::GemmFamily;
use frazil::low_level::{DType, Graph, Op, ParameterId, Pool2d, StepScalars};
use frazil::low_level::{Plan, PlanOptions};
use frazil::low_level::{Shape, Window};
use frazil::{Adam, Gpu, GpuOptions, Optimizer, Result, Sgd};

/// GEMM shapes `[m, k, n]`: two square ones, one of a dense layer, one of a deep convolution.
const GEMMS: [[usize; 3]; 4] = [[256, 256, 256], [512, 512, 512], [64, 1024, 256], [1024, 1152, 128]];

fn main() -> Result<()> {
    let light = timer::light();
    let iterations = if light { 1 } else { 20 };
    let batch = if light { 2 } else { 16 };
    let gpu = Gpu::new(GpuOptions::default())?;
    println!("{}, {}, {}", gpu.report().name, gpu.report().backend, gpu.report().driver);
    let head = ["kernel", "family", "median us", "min us", "GFLOP/s", "GB/s"];
    println!("{:<34} {:<10} {:>10} {:>10} {:>9} {:>7}", head[0], head[1], head[2], head[3], head[4], head[5]);
    for family in GemmFamily::supported(gpu.report()) {
        for [m, k, n] in GEMMS {
            measure(&gpu, &format!("gemm {m}x{k}x{n}"), &graphs::gemm([m, k, n])?, Some(family), iterations)?;
        }
        for (side, c_in, c_out) in [(32, 16, 32), (16, 64, 64)] {
            let name = format!("{side}x{side}, {c_in} to {c_out}");
            for part in ["forward", "grad_input", "grad_kernel"] {
                let graph = graphs::convolution([batch, side, c_in, c_out, 3], part)?;
                measure(&gpu, &format!("conv2d {name} {part}"), &graph, Some(family), iterations)?;
            }
        }
    }
    // Pooling does not use a GEMM, so it is measured without a GEMM family.
    for gradient in [false, true] {
        let name = format!("max_pool2d 32x32x32{}", if gradient { " grad_input" } else { "" });
        measure(&gpu, &name, &pooling(batch, gradient)?, None, iterations)?;
    }
    let count = if light { 10_000 } else { 1_000_000 };
    let rules: [(&str, Optimizer); 2] =
        [("sgd_momentum", Sgd::new(0.001).momentum(0.9).into()), ("adam", Adam::new(0.001).into())];
    for (name, rule) in rules {
        measure(&gpu, &format!("{name}_update {count}"), &update(count, &rule)?, None, iterations)?;
    }
    Ok(())
}

/// Measures the time of one step of a graph with the host clock, including the wait for the device.
fn measure(
    gpu: &Gpu,
    name: &str,
    graph: &Graph,
    family: Option<GemmFamily>,
    iterations: usize,
) -> Result<()> {
    let mut options = PlanOptions::default();
    if let Some(family) = family {
        options = options.family(family);
    }
    let plan = Plan::compile(gpu, graph, &options)?;
    let scalars = StepScalars::forward(graph.batch());
    let flops = plan.report().flops();
    let times = timer::interleaved(&mut [plan], iterations, |plan| {
        plan.run(scalars).and_then(|()| gpu.wait()).expect("run failed");
    });
    let bytes: usize = graph.values().iter().map(|value| 4 * value.shape.elements()).sum();
    let median = times[0].median();
    println!(
        "{name:<34} {:<10} {median:>10.1} {:>10.1} {:>9.2} {:>7.2}",
        family.map_or("-".to_owned(), |family| family.to_string()),
        times[0].quantile(0.0),
        flops as f64 / median / 1e3,
        bytes as f64 / median / 1e3
    );
    Ok(())
}

fn pooling(batch: usize, gradient: bool) -> Result<Graph> {
    let pool = Pool2d {
        window: Window { stride: [2, 2], ..Window::new([2, 2]) }.on([32, 32], "pool")?,
        channels: 32,
    };
    let mut graph = Graph::new(batch)?;
    let results = if gradient {
        let position = graph.batch_input("position", &[16, 16, 32], DType::U32)?;
        let dy = graph.batch_input("dy", &[16, 16, 32], DType::F32)?;
        graph.push(Op::MaxPool2dGrad(pool), &[position, dy], "pool grad_input")?
    } else {
        let x = graph.batch_input("x", &[32, 32, 32], DType::F32)?;
        graph.push(Op::MaxPool2d(pool), &[x], "pool")?
    };
    results.into_iter().try_for_each(|result| graph.mark_output(result))?;
    Ok(graph)
}

fn update(count: usize, rule: &Optimizer) -> Result<Graph> {
    let mut graph = Graph::new(1)?;
    graph.parameter("weights", Shape::new([count])?)?;
    let gradient = graph.input("gradient", Shape::new([count])?, DType::F32);
    graph.push(Op::Update(*rule.rule(), vec![ParameterId::of(0).into()]), &[gradient], "update")?;
    Ok(graph)
}
