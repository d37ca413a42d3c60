//! Networks in ONNX files.

mod export;
mod import;
mod proto;

pub use export::write_onnx;
pub use import::{OnnxNetwork, read_onnx};
