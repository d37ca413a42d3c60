//! Matrix multiplication (GEMM), with implicit GEMM for convolutions: problem description, families, split-K.

mod family;
mod gemm_cooperative;
mod gemm_register;
mod gemm_subgroup;
mod gemm_tiled;
mod launch;
mod problem;
mod round_to_f16;
mod split_k;
mod tile;

pub use family::GemmFamily;
pub(crate) use problem::{Epilogue, Gemm, MAX_TERMS, Matrix, Operand, PixelSet, Source};
pub(crate) use round_to_f16::round_to_f16;
pub(crate) use split_k::{split_k_sum, split_k_sum_parallel, splits};
pub use tile::{TILES, Tile, TileSet};

use super::Launch;

/// Returns the family that computes a GEMM: cooperative matrices of few rows or columns would be mostly empty.
fn family_of(gemm: &Gemm, family: GemmFamily) -> GemmFamily {
    match family {
        GemmFamily::Cooperative { .. } if gemm.m.min(gemm.n) <= 8 => {
            GemmFamily::Tiled { tiles: TileSet::Large }
        }
        family => family,
    }
}

/// Estimated time of a GEMM that occupies a GPU, in multiply-adds that the GPU computes at its peak in this time.
pub fn gemm_time(gemm: &Gemm, family: GemmFamily) -> usize {
    match family {
        GemmFamily::Tiled { tiles } => gemm_tiled::busy_time(gemm, tiles),
        GemmFamily::Cooperative { .. } => gemm_tiled::busy_time(gemm, TileSet::Large),
        GemmFamily::Register | GemmFamily::Subgroup { .. } => gemm_register::busy_time(gemm),
    }
}

/// Factor of each operand that a family reads in f16 ([`Gemm::stored_f16`]), A and B; `None` if it reads them in
/// f32.
pub fn stored_f16_scales(gemm: &Gemm, family: GemmFamily) -> Option<[u32; 2]> {
    let stored = matches!(family_of(gemm, family), GemmFamily::Cooperative { stored: true, .. });
    stored.then(|| gemm_cooperative::scales(gemm))
}

/// Launches a GEMM with a family. Buffers: A, B, C, the operand of the epilogue (any buffer if it has none),
/// then the bias gradient if [`Gemm::bias_grad`], or the positions of the maxima if [`Gemm::pooled`].
pub fn gemm_launch(gemm: &Gemm, family: GemmFamily) -> Launch {
    let gemm = &gemm.as_pointwise_convolution();
    match family_of(gemm, family) {
        GemmFamily::Register => gemm_register::launch(gemm),
        GemmFamily::Subgroup { lanes } => gemm_subgroup::launch(gemm, lanes as usize),
        GemmFamily::Tiled { tiles } => gemm_tiled::launch(gemm, gemm_tiled::choose(gemm, tiles)),
        GemmFamily::Cooperative { side, lanes, .. } => {
            gemm_cooperative::launch(gemm, side as usize, lanes as usize)
        }
    }
}
