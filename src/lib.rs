//! Trains convolutional networks on any Vulkan, Metal or DX12 GPU with single weights frozen, to the bit.
//!
//! A parameter is frozen element by element, at any step: a frozen element's bits do not change, nor does its
//! optimizer state, under any optimizer, decay, momentum, NaN or infinity. [`Trainer::verify_frozen`] proves
//! it from digests that the device computes.
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
//!     // Freeze half of a kernel at its current values, and one weight of another tensor at a given value.
//!     trainer.freeze("conv*.kernel", FreezeRule::random(0.5).seed(42))?;
//!     trainer.set_and_freeze("fc.bias", &[0.25; 10], &Mask::from_frozen((0..10).map(|i| i == 3)))?;
//!
//!     for batch in Digits::train()?.batches(64, 7)? {
//!         trainer.step(&batch)?;
//!     }
//!     println!("{}", trainer.evaluate(&Digits::test()?)?); // accuracy 0.7556, loss 1.0176 on 360 examples
//!     println!("{}", trainer.verify_frozen()?);            // 0 of 37 frozen elements changed, per tensor
//!     # assert_eq!((trainer.verify_frozen()?.changed(), trainer.frozen_count()), (0, 37));
//!     # assert_eq!(trainer.parameter("fc.bias")?[3], 0.25);
//!     Ok(())
//! }
//! ```
//!
//! # Overview
//! - [`Model`] and [`Trainer`]: layers, losses, optimizers, freezing, evaluation, checkpoints; [`Predictor`] for
//!   inference alone.
//! - [`Mask`] and [`FreezeRule`]: the frozen elements. A set bit means frozen; the names of the constructors
//!   say which elements they take.
//! - [`interop`]: networks of ONNX files, weights and masks of PyTorch, Keras and NumPy; some formats are optional
//!   features.
//! - [`low_level`]: graphs of operations, compiled for a device or interpreted in f64, for custom networks
//!   and losses.
//! - [`conformance`]: compares every operation on an adapter with the reference, over a table of cases.
//!
//! # Layouts
//! Images are NHWC, convolution kernels HWIO `[kernel_h, kernel_w, c_in / groups, c_out]`, dense kernels
//! `[in, out]`, all row-major, as in TensorFlow. Losses are means over a batch, in nats. Equal seeds on one
//! adapter give equal bits.
//!
//! # The program
//! The package `frazil-cli` contains the program `frazil`, which trains, evaluates, benchmarks and checks
//! adapters.

pub mod checkpoint;
mod compiler;
pub mod conformance;
pub mod data;
mod digest;
mod engine;
mod error;
mod file;
mod floats;
pub mod gpu;
mod graph;
mod host_memory;
pub mod interop;
mod kernels;
pub mod layer;
mod loss;
pub mod low_level;
pub mod mask;
pub mod model;
mod npy;
pub mod optimizer;
mod predictor;
pub mod ranks;
mod reference;
mod rng;
mod shape;
mod stopwatch;
mod tensor_file;
pub mod trainer;
mod wgsl;

pub use data::{Batch, Dataset, Digits};
pub use error::{Error, Result};
pub use gpu::{Gpu, GpuOptions};
pub use loss::{CrossEntropy, Loss};
pub use mask::{FreezeRule, Mask};
pub use model::Model;
pub use optimizer::{Adagrad, Adam, AdamW, BiasCorrection, Clip, LrSchedule, Optimizer, RmsProp, Sgd};
pub use predictor::Predictor;
pub use shape::Padding;
pub use trainer::{ThawPolicy, Trainer, TrainerOptions};
pub use wgpu;

/// Checks at compile time that the types that applications share between threads are `Send` and `Sync`.
const _: () = {
    const fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Gpu>();
    assert_send_sync::<Mask>();
    assert_send_sync::<FreezeRule>();
    assert_send_sync::<Dataset>();
    assert_send_sync::<Optimizer>();
    assert_send_sync::<Loss>();
    assert_send_sync::<Model>();
    assert_send_sync::<Trainer>();
    assert_send_sync::<Predictor>();
    assert_send_sync::<Error>();
    assert_send_sync::<checkpoint::Checkpoint>();
    assert_send_sync::<low_level::Graph>();
    assert_send_sync::<low_level::Plan>();
    assert_send_sync::<low_level::Store>();
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
