//! Structs that several kernels and the host share, by name in WGSL.

pub use crate::digest::Digest;

use crate::wgsl::{AtomicWord, params};

/// Size of the running sums in bytes.
pub const SUMS_BYTES: u64 = size_of::<Sums>() as u64;

params! {
    /// Running sums of the training metrics. A shader that binds them needs write access, because they have
    /// atomic members.
    pub(in crate::kernels) struct Sums {
        loss: f32,
        correct: u32,
        examples: u32,
        /// 1 after a step whose loss was not finite.
        non_finite: u32,
        /// First step whose loss was not finite.
        non_finite_step: u32,
        weight: f32,
        /// Norm of the gradients of the last update, and the factor that clips them.
        norm: f32,
        clip_scale: f32,
        /// 0, or after an update with a result that was not finite: `0xffffffff` minus the lowest number of
        /// the groups of four elements that have such a result. Groups are numbered over all chunks.
        rejected: AtomicWord,
        /// The step of that update.
        rejected_step: AtomicWord,
    }
}

params! {
    /// A contiguous part of a tensor in an arena.
    pub struct Segment {
        /// First element in the arena.
        pub first: u32,
        /// Index of that element in the tensor.
        pub index: u32,
        /// Number of elements.
        pub count: u32,
    }
}
