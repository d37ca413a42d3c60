//! Helpers that the examples of published methods share: a small network and its training on the embedded
//! digits data set.
#![allow(dead_code)]

use frazil::trainer::GradientPolicy;
use frazil::{
    Dataset, Gpu, GpuOptions, Loss, Model, Optimizer, Padding::Same, Result, Trainer, TrainerOptions,
};

/// The result of an example.
pub type Outcome<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Paths of the kernels in [`trainer`]'s network.
pub const KERNELS: [&str; 3] = ["conv.kernel", "fc1.kernel", "fc2.kernel"];

/// Opens the default adapter.
pub fn gpu() -> Result<Gpu> {
    Gpu::new(GpuOptions::default())
}

/// Creates a trainer with batches of 64 for 8x8 images. Layers: 3x3 convolution with 8 output channels, ReLU,
/// 2x2 max-pooling, dense layer with 32 outputs, ReLU, dense layer with `classes` outputs.
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

/// Returns an error unless at least one element is frozen and no frozen element changed.
pub fn proved(trainer: &Trainer) -> Outcome {
    let proof = trainer.verify_frozen()?;
    ensure(proof.changed() == 0 && proof.frozen() > 0, &format!("frozen elements keep their bits: {proof}"))
}

/// Returns an error that names the claim if it does not hold.
pub fn ensure(holds: bool, claim: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("does not hold: {claim}").into()) }
}
