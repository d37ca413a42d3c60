//! Steps of two ranks over a simulated network: how much of the exchange of gradients the backward pass hides, beside
//! what a model predicts; and what the model predicts for ResNet-50 on four ranks.
//!
//! Run with `LP_NUM_THREADS=1 cargo bench --bench ranks`, so that two software devices share two cores; `-- --light` runs
//! one step.

#![allow(clippy::expect_used)]

mod timer;

use frazil::gpu::{AdapterReport, Gpu, GpuOptions};
use frazil::low_level::PlanReport;
use frazil::ranks::{Ranks, ThreadRanks, threads};
use frazil::{Batch, FreezeRule, Loss, Model, Result, Sgd, Trainer, TrainerOptions};
use std::cell::Cell;
use std::time::Duration;

const BATCH: usize = 16;
const LIMIT: Duration = Duration::from_secs(60);

/// Ranks that wait as long as a network of this bandwidth takes, both ways at once.
struct Network<'a> {
    inner: &'a ThreadRanks,
    bytes_per_second: f64,
    waited: Cell<Duration>,
    exchanges: Cell<usize>,
}

impl Network<'_> {
    /// Waits for what this rank sends.
    fn send(&self, values: usize) {
        let time = Duration::from_secs_f64(4.0 * values as f64 / self.bytes_per_second);
        std::thread::sleep(time);
        self.waited.set(self.waited.get() + time);
        self.exchanges.set(self.exchanges.get() + 1);
    }
}

impl Ranks for Network<'_> {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn count(&self) -> usize {
        self.inner.count()
    }

    fn all_to_all(&self, values: &[f32], lengths: &[usize]) -> Result<Vec<f32>> {
        self.send(values.len() - lengths[self.rank()]);
        self.inner.all_to_all(values, lengths)
    }

    fn all_gather(&self, part: &[f32], lengths: &[usize]) -> Result<Vec<f32>> {
        self.send(part.len() * (self.count() - 1));
        self.inner.all_gather(part, lengths)
    }

    fn all_gather_words(&self, words: &[u64]) -> Result<Vec<Vec<u64>>> {
        self.inner.all_gather_words(words)
    }
}

/// Predicts the milliseconds of a step whose computation takes `compute`: its dispatches take time in proportion to their
/// floating-point operations; parts of 1 MiB of gradients are sent one after another, from when they are computed on,
/// each in `latency` and `per_byte` for each byte of gradients.
fn predicted(report: &PlanReport, compute: f64, live: f64, latency: f64, per_byte: f64) -> f64 {
    let all: f64 = report.dispatches.iter().map(|used| used.flops as f64).sum();
    let (mut flops, mut sent, mut bytes) = (0.0, 0.0, 0.0);
    for used in &report.dispatches {
        flops += used.flops as f64;
        if used.kernel == "accumulate" {
            // It writes sums and gradients.
            bytes += 0.5 * used.bytes_written as f64 * live;
        }
        if bytes >= (1 << 20) as f64 {
            sent = f64::max(sent, compute * flops / all) + latency + bytes * per_byte;
            bytes = 0.0;
        }
    }
    f64::max(sent, compute) + latency + bytes * per_byte
}

/// Prints what the model predicts for ResNet-50 on four ranks with the time that an H200 takes for 32 images.
fn predict_resnet50(adapter: &AdapterReport) -> Result<()> {
    const COMPUTE: f64 = 37.2;
    let options = TrainerOptions::batch(4).accumulate(true);
    let sgd = Sgd::new(0.01).momentum(0.9);
    let model = Model::named("resnet50")?;
    let report = Trainer::estimate(adapter, &model, Loss::SoftmaxCrossEntropy, sgd, &options)?;
    println!(
        "\nresnet50 on 4 ranks, predicted ms of a step, one exchange after the computation and in parts"
    );
    println!("{:<8} {:>18} {:>18} {:>18}", "frozen", "1 GbE", "10 GbE", "100 GbE");
    for frozen in [0.0, 0.5, 0.9, 0.99] {
        print!("{frozen:<8}");
        for (gigabits, microseconds) in [(1.0, 50.0), (10.0, 20.0), (100.0, 5.0)] {
            let latency = 9.0 * microseconds / 1e3;
            let per_byte = 1.5 / (0.94 * gigabits * 1e6 / 8.0);
            let gradients = report.dispatches.iter().filter(|used| used.kernel == "accumulate");
            let bytes = gradients.map(|used| 0.5 * used.bytes_written as f64).sum::<f64>() * (1.0 - frozen);
            let at_once = COMPUTE + latency + bytes * per_byte;
            let parts = predicted(&report, COMPUTE, 1.0 - frozen, latency, per_byte);
            print!(" {at_once:>9.1} {parts:>8.1}");
        }
        println!();
    }
    Ok(())
}

/// What rank 0 measured: milliseconds of a step without and with the network, and what it waits for the network.
struct Measured {
    alone: f64,
    together: f64,
    predicted: f64,
    network: f64,
    exchanges: usize,
}

fn main() -> Result<()> {
    let (models, iterations): (&[_], _) =
        if timer::light() { (&[("cifar", 5e7)], 1) } else { (&[("cifar", 5e7), ("resnet18", 1e8)], 9) };
    println!("a step of two ranks with {BATCH} examples each, in ms, median of {iterations}");
    println!(
        "{:<10} {:>6} {:>7} {:>8} {:>8} {:>8} {:>8} {:>9} {:>6}",
        "model", "frozen", "MB/s", "compute", "network", "sum", "step", "predicted", "parts"
    );
    for &(name, bytes_per_second) in models {
        for frozen in [0.0, 0.9] {
            let ranks = threads(2, LIMIT);
            let all: Vec<_> = std::thread::scope(|scope| {
                let run = |rank| move || measure(rank, name, frozen, bytes_per_second, iterations);
                let spawned: Vec<_> = ranks.iter().map(|rank| scope.spawn(run(rank))).collect();
                spawned.into_iter().map(|thread| thread.join().expect("a rank")).collect()
            });
            let Measured { alone, together, predicted, network, exchanges } =
                all.into_iter().next().expect("two ranks")?;
            println!(
                "{name:<10} {frozen:>6} {:>7} {alone:>8.1} {network:>8.1} {:>8.1} {together:>8.1} {predicted:>9.1} {exchanges:>6}",
                bytes_per_second / 1e6,
                alone + network
            );
        }
    }
    predict_resnet50(Gpu::new(GpuOptions::default())?.report())
}

fn measure(
    inner: &ThreadRanks,
    name: &str,
    frozen: f64,
    bytes_per_second: f64,
    iterations: usize,
) -> Result<Measured> {
    let gpu = Gpu::new(GpuOptions::default())?;
    let model = match name {
        "resnet18" => Model::named_for(name, &[64, 64, 3], 10)?,
        _ => Model::named(name)?,
    };
    let shape = <[usize; 3]>::try_from(model.example_shape()).expect("models with image input");
    let data = frazil::data::synthetic("synthetic", shape, 10, 2 * BATCH, 1)?;
    let batches: Vec<Batch> = data.batches(BATCH, 1)?.collect();
    let own = &batches[inner.rank()..=inner.rank()];
    let options = TrainerOptions::batch(BATCH).accumulate(true).progress_every(0);
    let sgd = Sgd::new(0.01).momentum(0.9);
    let mut trainer = Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, sgd, options)?;
    trainer.freeze("*.kernel", FreezeRule::random(frozen))?;
    let network = |bytes_per_second| Network {
        inner,
        bytes_per_second,
        waited: Cell::default(),
        exchanges: Cell::default(),
    };
    let mut both = [network(f64::INFINITY), network(bytes_per_second)];
    let times = timer::interleaved(&mut both, iterations, |ranks| {
        ranks.waited.take();
        ranks.exchanges.take();
        trainer.step_on(ranks, own).expect("a step");
        trainer.metrics_on(ranks).expect("metrics");
    });
    let [alone, together] = [0, 1].map(|which| times[which].median() / 1e3);
    let network = both[1].waited.get().as_secs_f64() * 1e3;
    let predicted = predicted(trainer.report(), alone, 1.0 - frozen, 0.0, 1e3 / bytes_per_second);
    Ok(Measured { alone, together, predicted, network, exchanges: both[1].exchanges.get() / 2 })
}
