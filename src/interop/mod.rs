//! Weights and masks of other programs: names, layouts and element types.

mod torch;

pub use torch::{TorchStateDict, TorchWeights};
