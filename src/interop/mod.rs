//! Weights and masks of other programs: names, layouts and element types.
//!
//! Files that are archives need features: `pytorch` for `.pth` and `.pt`, `keras` for `.weights.h5` and `.keras`, `npz`
//! for `.npz`. Safetensors and `.npy` files need none.

mod contents;
#[cfg(feature = "keras")]
mod hdf5;
mod inspect;
#[cfg(feature = "keras")]
mod keras;
pub mod npy;
mod onnx;
#[cfg(feature = "pytorch")]
mod pickle;
#[cfg(feature = "pytorch")]
mod pytorch;
mod state_dict;
mod torch;
mod weights;

pub use contents::{FileContents, TensorEntry, ValueEntry};
pub use inspect::contents;
#[cfg(feature = "keras")]
pub use keras::KerasWeights;
pub use onnx::{OnnxNetwork, read_onnx, write_onnx};
pub use torch::TorchStateDict;
pub use weights::Weights;
