//! The conformance suite: compares every operation on an adapter with the f64 reference, over a table of
//! cases.
//!
//! A [`Suite`] selects cases and variants, runs them one after the other and yields an [`Outcome`] for each; `frazil check` prints
//! them. A failing case on a driver that passes elsewhere is a defect of the driver or its shader compiler:
//! [`Outcome::kernels`] names the shaders to look at, [`run_case`] repeats a single case, and [`record_case`] also
//! returns its tensors.
//!
//! ```text
//! Case ── data ──> operands ──┬── reference (f64) ──> expected results, a bound for each element ──┐
//!                             └── Plan (one GEMM family) ──> results on the device ────────────────┴── compare ──> Outcome
//! ```
//!
//! # Cases
//! A [`Case`] is data: a few operations ([`Ops`]) with operands of given shapes, or one masked optimizer
//! update ([`Update`]). [`cases`] returns the table. It has every operation except the update of running
//! statistics, over shapes that are and are not multiples of the vector and tile sizes, chains that compile
//! to fused kernels, and all algorithms of convolutions. A case's name seeds its random numbers, so its data
//! are the same on every machine.
//!
//! Float operands are small integers or normal draws ([`DataKind`]). With integers every partial sum is exact
//! in f32, so a result must equal the reference, whatever the order of summation; the error of a wrong index
//! or a missing element cannot be mistaken for rounding. Reals test the rounding.
//!
//! # Bounds
//! Each element of each result has its own bound, computed in f64 from the operands ([`bounds()`]). A sum of
//! K products may differ by (4 + sqrt(K)) * 2^-24 times the sum of the products' magnitudes, in any order and
//! with or without fused multiply-add. The bounds include the errors that the Vulkan specification allows:
//! 2.5 ulps for a division (and a square root), 3 + 2|x| ulps for `exp`, and subnormal numbers flushed to 0.
//! Winograd's transforms are bounded by the transforms of the magnitudes. Chains propagate the bounds of
//! earlier results. [`Outcome::worst_error`] is the largest error as a fraction of its bound.
//!
//! # What is compared
//! - **Full batch**: every element of every output.
//! - **Short batches**: the same plan with fewer rows, after a run in which all unused rows of the operands
//!   were NaN (so that workspaces contain NaN there too). Valid rows must be correct, and unused rows of
//!   outputs must not be written.
//! - **Guard bands**: a pattern stored after every tensor must be unchanged after all runs
//!   ([`PlanOptions::guard_bands`](crate::low_level::PlanOptions::guard_bands)).
//! - **Special values**: cases with NaN, an infinity or -0.0 in a single element of an incomplete vec4 check
//!   that it does not spread to other components and that the sign of zero is kept.
//! - **Running sums** of metrics, and the norm of clipped gradients.
//! - **Updates**: trainable elements of weights and optimizer state within bounds. Frozen elements, many of
//!   them NaN with payloads, infinities and subnormal numbers, keep their bits, as do all elements of
//!   parameters that the update does not list. The padding between tensors in the arenas of weights,
//!   gradients and state keeps its pattern.
//! - **Training steps** ([`training_cases`]): frozen elements keep their bits, and two trainers have the same bits.
//!
//! With cooperative matrices, operands are rounded to f16 before they are written, so the same bounds apply.

mod bounds;
mod case;
mod compare;
mod facts;
mod fault;
mod network;
mod ops;
mod outcome;
mod run;
mod shaders;
mod suite;
mod table;
mod tensors;
mod training;
mod update;

pub use bounds::bounds;
pub use case::{Case, DataKind, Fill, Operand, Ops, Partial, Planted, Update, Wire, Work};
pub use compare::{Mismatch, compare};
pub use facts::{Fact, float_facts};
pub use fault::{Fault, FaultKind, plant};
pub use network::Training;
pub use ops::{outputs, reference_outputs};
pub use outcome::{Outcome, Verdict};
pub use run::{families, record_case, run_case};
pub use shaders::shaders;
pub use suite::{Extent, Planned, Run, Runs, Suite};
pub use table::{cases, large_cases, network_cases, random_cases};
pub use tensors::Tensor;
pub use training::training_cases;
