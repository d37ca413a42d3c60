//! The integration tests: one binary, so that a device is opened once.

mod adjoint;
mod checkpoint;
#[cfg(feature = "cli")]
mod command_line;
mod contract;
mod data_files;
mod errors;
mod freeze;
mod golden;
mod module_order;
mod op_table;
mod reference_gradients;
mod support;
mod training;
