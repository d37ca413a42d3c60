//! Host time of a training step, measured on wgpu's no-op backend.
//!
//! Run with `cargo bench --bench host`; `-- --light` runs one short iteration.

#![allow(clippy::expect_used)]

mod timer;

use frazil::gpu::Gpu;
use frazil::wgpu;
use frazil::{FreezeRule, Loss, Model, Sgd, Trainer, TrainerOptions};

const MODELS: [&str; 4] = ["digits", "lenet28", "cifar", "resnet20"];

/// Steps per measurement: a single step is too short for the resolution of the clock.
const STEPS: usize = 20;

fn main() -> frazil::Result<()> {
    let iterations = if timer::light() { 1 } else { 50 };
    let gpu = noop_gpu();
    println!("host cost of Trainer::step, batches of 8, on {}", gpu.report().name);
    println!("{:<38} {:>10} {:>12} {:>14}", "model", "us/step", "dispatches", "us/dispatch");
    for name in MODELS {
        for frozen in [false, true] {
            let model = Model::named(name)?;
            let shape = <[usize; 3]>::try_from(model.example_shape()).expect("models with image input");
            let data = frazil::data::synthetic("synthetic", shape, 10, 8, 1)?;
            let batch = data.batches(8, 1)?.next().expect("at least one batch");
            let options = TrainerOptions::batch(8).progress_every(0);
            let sgd = Sgd::new(0.01).momentum(0.9);
            let mut trainer = Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, sgd, options)?;
            if frozen {
                trainer.freeze("*.kernel", FreezeRule::random(0.5))?;
            }
            trainer.step(&batch)?;
            let dispatches = trainer.report().dispatches.len();
            let times = timer::interleaved(&mut [trainer], iterations, |trainer| {
                for _ in 0..STEPS {
                    trainer.step(&batch).expect("training step failed");
                }
            });
            let step = times[0].median() / STEPS as f64;
            let name = format!("{name}{}", if frozen { ", half of each kernel frozen" } else { "" });
            println!("{name:<38} {step:>10.1} {dispatches:>12} {:>14.2}", step / dispatches as f64);
        }
    }
    Ok(())
}

/// Opens a device of wgpu's no-op backend.
fn noop_gpu() -> Gpu {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::NOOP;
    descriptor.backend_options.noop.enable = true;
    let instance = wgpu::Instance::new(descriptor);
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()));
    let adapter = adapter.expect("no-op adapter");
    // Uses wgpu's default limits: the no-op adapter reports unbounded limits, and table sizes that wgpu computes
    // from them overflow.
    let descriptor = wgpu::DeviceDescriptor { label: Some("noop"), ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("no-op device");
    Gpu::from_wgpu(&adapter, device, queue)
}
