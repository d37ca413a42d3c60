//! Weights and masks of other programs: names, layouts and element types.

mod onnx;
mod torch;

pub use onnx::{OnnxNetwork, read_onnx, write_onnx};
pub use torch::{TorchStateDict, TorchWeights};
