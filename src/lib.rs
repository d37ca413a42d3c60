//! Trains convolutional networks on any Vulkan, Metal or DX12 GPU with single weights frozen, to the bit.
//!
//! A parameter is frozen element by element, at any step: a frozen element's bits do not change, nor does its optimizer
//! state, under any optimizer, decay, momentum, NaN or infinity. [`Trainer::verify_frozen`] proves it from digests that
//! the device computes.
//!
//! ```
//! use frazil::{Digits, FreezeRule, Gpu, GpuOptions, Loss, Mask, Model, Padding::Same, Sgd, Trainer, TrainerOptions};
//!
//! fn main() -> frazil::Result<()> {
//!     let gpu = Gpu::new(GpuOptions::default())?;
//!     let model = Model::input([8, 8, 1])
//!         .conv2d("conv1", 8, [3, 3], |c| c.padding(Same)).relu()
//!         .max_pool2d([2, 2]).flatten()
//!         .dense("fc", 10)
//!         .build()?;
//!     let sgd = Sgd::new(0.05).momentum(0.9).weight_decay(1e-4);
//!     let options = TrainerOptions::batch(64).seed(7);
//!     let mut trainer = Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, sgd, options)?;
//!
//!     // Half of a kernel at today's values, and one weight of another tensor at a value of our own.
//!     trainer.freeze("conv*.kernel", FreezeRule::random(0.5).seed(42))?;
//!     trainer.set_and_freeze("fc.bias", &[0.25; 10], &Mask::from_frozen((0..10).map(|i| i == 3)))?;
//!
//!     for batch in Digits::train()?.batches(64, 7)? {
//!         trainer.step(&batch)?;
//!     }
//!     println!("{}", trainer.evaluate(&Digits::test()?)?); // accuracy 0.5028, loss 1.9441 on 360 examples
//!     println!("{}", trainer.verify_frozen()?);            // 0 of 37 frozen elements changed, per tensor
//!     # assert_eq!((trainer.verify_frozen()?.changed(), trainer.frozen_count()), (0, 37));
//!     # assert_eq!(trainer.parameter("fc.bias")?[3], 0.25);
//!     Ok(())
//! }
//! ```
//!
//! # What there is
//! - [`Model`] and [`Trainer`]: layers, losses, optimizers, freezing, evaluation, saving and going on.
//! - [`Graph`](graph::Graph), [`Plan`] and [`Reference`](reference::Reference): mathematical operations, compiled
//!   for a device or interpreted in f64. One operation at a time is a supported use: see [`Plan`].
//! - [`Mask`] and [`FreezeRule`]: which elements; 1 = frozen, named in every constructor.
//! - [`conformance`]: compares every operation on an adapter with the reference, over a table of cases.
//!
//! # Layouts
//! Images are NHWC, convolution kernels HWIO `[kernel_h, kernel_w, c_in / groups, c_out]`, dense kernels `[in, out]`,
//! all row-major (TensorFlow's). Losses are means over a batch, in nats. Equal seeds on one adapter give equal bits.
//!
//! # The program
//! The package `frazil-cli` has the program `frazil`: training, benchmarks and the table of operations from the shell.

pub mod checkpoint;
pub mod compiler;
pub mod conformance;
pub mod data;
pub mod engine;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod kernels;
pub mod layer;
pub mod loss;
pub mod mask;
pub mod model;
pub mod optimizer;
pub mod reference;
pub mod rng;
pub mod shape;
pub mod trainer;
mod wgsl;

pub use compiler::PlanOptions;
pub use data::{Batch, Dataset, Digits};
pub use engine::Plan;
pub use error::{Error, Result};
pub use gpu::{Gpu, GpuOptions};
pub use loss::Loss;
pub use mask::{FreezeRule, Mask};
pub use model::Model;
pub use optimizer::{Adagrad, Adam, AdamW, Clip, LrSchedule, Optimizer, RmsProp, Sgd};
pub use shape::Padding;
pub use trainer::{ThawPolicy, Trainer, TrainerOptions};
pub use wgpu;

/// Types that applications share between threads.
const _: () = {
    const fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Gpu>();
    assert_send_sync::<Mask>();
    assert_send_sync::<FreezeRule>();
    assert_send_sync::<Dataset>();
    assert_send_sync::<Optimizer>();
    assert_send_sync::<checkpoint::Checkpoint>();
};

/// The examples of the README and of `docs/` are compiled with the doctests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/guide.md")]
    struct Guide;
    #[doc = include_str!("../docs/masks.md")]
    struct Masks;
    #[doc = include_str!("../docs/interop.md")]
    struct Interop;
}
