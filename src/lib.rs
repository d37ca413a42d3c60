//! Frazil.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod check;
pub mod checkpoint;
pub mod data;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod kernels;
pub mod layer;
pub mod loss;
pub mod mask;
pub mod model;
pub mod optimizer;
pub mod plan;
pub mod reference;
pub mod rng;
pub mod shape;
pub mod trainer;

pub use data::{Batch, Dataset, Digits};
pub use error::{Error, Result};
pub use gpu::{Gpu, GpuOptions};
pub use loss::Loss;
pub use mask::{FreezeRule, Mask};
pub use model::Model;
pub use optimizer::{Adam, AdamW, Optimizer, Sgd};
pub use plan::{Plan, PlanOptions};
pub use shape::Padding;
pub use trainer::{ThawPolicy, Trainer, TrainerOptions};
pub use wgpu;
