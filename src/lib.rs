//! Frazil.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod error;
pub mod graph;
pub mod mask;
pub mod reference;
pub mod rng;
pub mod shape;

pub use error::{Error, Result};
