//! Networks in ONNX files.

mod attributes;
mod contents;
mod export;
mod fold;
mod import;
mod names;
mod proto;
mod resize;

pub(super) use contents::contents;
pub use export::write_onnx;
pub use import::{OnnxNetwork, read_onnx};
