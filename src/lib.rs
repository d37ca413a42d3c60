//! Frazil.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod data;
pub mod error;
pub mod graph;
pub mod mask;
pub mod rng;
pub mod shape;

pub use error::{Error, Result};
pub mod gpu;
pub use wgpu;
pub mod kernels;
pub mod plan;
