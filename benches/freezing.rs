//! Time of a training step of a small convolutional network with frozen kernels, relative to the same step
//! without frozen elements.
//!
//! Run with `cargo bench --bench freezing`; `-- --light` runs one short iteration.

#![allow(clippy::expect_used)]

mod timer;

use frazil::{
    Batch, FreezeRule, Gpu, GpuOptions, Loss, Mask, Model, Padding::Same, Result, Sgd, Trainer,
    TrainerOptions,
};

const FRACTIONS: [f64; 4] = [0.5, 0.9, 0.99, 1.0];

/// Structures of the frozen elements: whole output channels, whole rows of the kernel matrix, or random
/// elements.
const STRUCTURES: [&str; 3] = ["filters", "rows", "scattered"];

fn main() -> Result<()> {
    let light = timer::light();
    let (iterations, rows) = if light { (1, 2) } else { (20, 32) };
    let gpu = Gpu::new(GpuOptions::default())?;
    println!("{}, {}, {}", gpu.report().name, gpu.report().backend, gpu.report().driver);
    let data = frazil::data::synthetic("synthetic", [16, 16, 32], 10, rows, 1)?;
    let batch = data.batches(rows, 1)?.next().expect("at least one batch");
    let mut runs = vec![("nothing".to_owned(), trainer(&gpu, &batch)?)];
    let mut control = trainer(&gpu, &batch)?;
    control.freeze("*", FreezeRule::none())?;
    runs.push(("control: empty mask".to_owned(), control));
    for structure in STRUCTURES {
        for fraction in FRACTIONS {
            let mut trainer = trainer(&gpu, &batch)?;
            freeze(&mut trainer, structure, fraction)?;
            runs.push((format!("{structure}, {:.0} %", 100.0 * fraction), trainer));
        }
    }
    let times = timer::interleaved(&mut runs, iterations, |(_, trainer)| {
        trainer.step(&batch).and_then(|()| gpu.wait()).expect("training step failed");
    });
    println!("{:<26} {:>10} {:>8} {:>18} {:>11}", "frozen", "median us", "ratio", "quartiles", "flops saved");
    for ((name, trainer), run) in runs.iter().zip(&times) {
        // Divides times of the same iteration, so that load from other processes affects both times of a
        // ratio.
        let pairs = run.iterations.iter().zip(&times[0].iterations);
        let ratios = timer::Times { iterations: pairs.map(|(time, baseline)| time / baseline).collect() };
        let report = trainer.report();
        let saved = report.flops_avoided() as f64 / (report.flops() + report.flops_avoided()) as f64;
        println!(
            "{name:<26} {:>10.0} {:>8.2} {:>18} {:>10.1}%",
            run.median(),
            ratios.median(),
            format!("[{:.2}, {:.2}]", ratios.quantile(0.25), ratios.quantile(0.75)),
            100.0 * saved
        );
    }
    Ok(())
}

fn trainer(gpu: &Gpu, batch: &Batch) -> Result<Trainer> {
    let model = Model::input([16, 16, 32])
        .conv2d("conv1", 64, [3, 3], |c| c.padding(Same))
        .relu()
        .conv2d("conv2", 64, [3, 3], |c| c.padding(Same))
        .relu()
        .max_pool2d([2, 2])
        .conv2d("conv3", 64, [3, 3], |c| c.padding(Same))
        .relu()
        .flatten()
        .dense("fc", 10)
        .build()?;
    let options = TrainerOptions::batch(batch.rows()).progress_every(0);
    Trainer::new(gpu, model, Loss::SoftmaxCrossEntropy, Sgd::new(0.001).momentum(0.9), options)
}

/// Freezes a fraction of every convolution kernel.
fn freeze(trainer: &mut Trainer, structure: &str, fraction: f64) -> Result<()> {
    for path in ["conv1.kernel", "conv2.kernel", "conv3.kernel"] {
        let depth = if path == "conv1.kernel" { 9 * 32 } else { 9 * 64 };
        let share = |count: usize| (fraction * count as f64).round() as usize;
        let rule = match structure {
            "scattered" => FreezeRule::random(fraction),
            "filters" => FreezeRule::mask(Mask::from_frozen((0..64 * depth).map(|i| i % 64 < share(64)))),
            _ => FreezeRule::mask(Mask::from_frozen((0..64 * depth).map(|i| i / 64 < share(depth)))),
        };
        trainer.freeze(path, rule)?;
    }
    Ok(())
}
