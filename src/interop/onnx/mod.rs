//! Networks in ONNX files.

mod attributes;
mod export;
mod fold;
mod import;
mod names;
mod proto;

pub use export::write_onnx;
pub use import::{OnnxNetwork, read_onnx};
