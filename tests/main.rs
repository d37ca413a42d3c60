//! The integration tests: one binary, so that a device is opened once.

mod adjoint;
mod golden_reference;
mod reference_gradients;
mod support;
