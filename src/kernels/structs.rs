//! Structs that several kernels and the host share, by name in WGSL.

pub use crate::digest::Digest;

use crate::wgsl::params;

/// Size of the running sums in bytes.
pub const SUMS_BYTES: u64 = size_of::<Sums>() as u64;

params! {
    /// Running sums of the training metrics.
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
