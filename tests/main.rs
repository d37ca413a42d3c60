//! The integration tests: one binary, so that a device is opened once.

mod adjoint;
#[cfg(feature = "cli")]
mod command_line;
mod contract;
mod errors;
mod freeze;
mod freeze_methods;
mod golden;
mod module_order;
mod op_table;
mod reference_gradients;
mod support;
mod training;
