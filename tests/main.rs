//! The integration tests: one binary, so that a device is opened once.

mod adjoint;
mod batch_norm;
#[cfg(feature = "cli")]
mod command_line;
mod contract;
mod errors;
mod freeze;
mod golden;
mod losses;
mod models;
mod module_order;
mod op_table;
mod reference_gradients;
mod residual;
mod support;
mod training;
