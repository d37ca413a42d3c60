//! Matrix products: the families, and the way that each product goes in them.

mod family;
mod gemm_cooperative;
mod gemm_register;
mod gemm_subgroup;
mod gemm_tiled;
mod launch;
mod params;
mod problem;
mod split_k;
mod split_k_sum;

pub use family::{GemmFamily, TileSize};
pub(crate) use problem::{Epilogue, Gemm, MAX_TERMS, Matrix, Operand, PixelSet, Source};
pub(crate) use split_k::splits;
pub(crate) use split_k_sum::split_k_sum;

use super::Launch;

/// The product in a family. Buffers: a, b, c, what the epilogue reads (anything, if nothing), the sums of columns or the
/// windows' positions if asked for.
pub fn gemm(gemm: &Gemm, family: GemmFamily) -> Launch {
    let gemm = &gemm.as_patches();
    match family {
        GemmFamily::Register => gemm_register::launch(gemm),
        GemmFamily::Subgroup { lanes } => gemm_subgroup::launch(gemm, lanes as usize),
        GemmFamily::Tiled { largest } => match gemm_tiled::size(gemm, largest) {
            Some(size) => gemm_tiled::launch(gemm, size),
            None => gemm_register::launch(gemm),
        },
        GemmFamily::Cooperative { .. } if gemm_tiled::is_narrow(gemm) => gemm_register::launch(gemm),
        GemmFamily::Cooperative { side, lanes } => {
            gemm_cooperative::launch(gemm, side as usize, lanes as usize)
        }
    }
}
