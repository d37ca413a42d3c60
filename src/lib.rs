//! Frazil.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod check;
pub mod data;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod kernels;
pub mod mask;
pub mod plan;
pub mod reference;
pub mod rng;
pub mod shape;

pub use error::{Error, Result};
pub use wgpu;
