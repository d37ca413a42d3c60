//! Shared by the examples of published methods: a small network on the embedded digits.
#![allow(dead_code)]

use frazil::trainer::GradientPolicy;
use frazil::{
    Dataset, Gpu, GpuOptions, Loss, Model, Optimizer, Padding::Same, Result, Trainer, TrainerOptions,
};

/// The result of an example.
pub type Outcome<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The kernels of [`trainer`]'s network.
pub const KERNELS: [&str; 3] = ["conv.kernel", "fc1.kernel", "fc2.kernel"];

/// Opens the default adapter.
pub fn gpu() -> Result<Gpu> {
    Gpu::new(GpuOptions::default())
}

/// A trainer of conv 3x3 1->8, ReLU, pool, dense 32, ReLU, dense, with batches of 64.
pub fn trainer(
    gpu: &Gpu,
    classes: usize,
    seed: u64,
    policy: GradientPolicy,
    optimizer: impl Into<Optimizer>,
) -> Result<Trainer> {
    let model = Model::input([8, 8, 1])
        .conv2d("conv", 8, [3, 3], |c| c.padding(Same))
        .relu()
        .max_pool2d([2, 2])
        .flatten()
        .dense("fc1", 32)
        .relu()
        .dense("fc2", classes)
        .build()?;
    let options = TrainerOptions::batch(64)
        .seed(seed)
        .keep_gradients(policy == GradientPolicy::Dense)
        .gradient_policy(policy);
    Trainer::new(gpu, model, Loss::SoftmaxCrossEntropy, optimizer, options)
}

/// Trains for some epochs.
pub fn train(trainer: &mut Trainer, data: &Dataset, epochs: u64) -> Result<()> {
    for epoch in 0..epochs {
        for batch in data.batches_for_epoch(64, 7, epoch)? {
            trainer.step(&batch)?;
        }
    }
    Ok(())
}

/// Fails unless elements are frozen and none of them changed.
pub fn proved(trainer: &Trainer) -> Outcome {
    let proof = trainer.verify_frozen()?;
    ensure(proof.changed() == 0 && proof.frozen() > 0, &format!("frozen elements keep their bits: {proof}"))
}

/// Fails with the claim if it does not hold.
pub fn ensure(holds: bool, claim: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("does not hold: {claim}").into()) }
}
