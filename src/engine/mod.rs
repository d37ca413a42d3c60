//! Runs compiled graphs: parameter stores, plans, and the encoding of compute passes.

#[cfg(not(target_family = "wasm"))]
mod ahead;
mod compact;
mod encode;
mod peaks;
mod plan;
mod predict;
mod running_sums;
mod single;
mod store;

pub(crate) use compact::CompactElements;
pub use peaks::{Peaks, peaks};
pub use plan::{Plan, TimedDispatch};
pub(crate) use predict::Examples;
pub use running_sums::{Rejected, RunningSums};
pub(crate) use single::run_shader;
pub use store::{Arena, Elements, Store};
