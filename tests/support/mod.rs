//! What several test modules share.

pub mod compare;
pub mod device;
pub mod executor;
pub mod golden;
pub mod onnx;
#[cfg(feature = "cli")]
pub mod program;
pub mod random;
pub mod training;
pub mod trajectory;
