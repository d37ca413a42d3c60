//! The integration tests: one binary, one shared device.

mod module_order;
