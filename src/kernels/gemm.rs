//! Matrix products: the families, and the way that each product goes in them.

use super::gemm_product::Gemm;
use super::{GemmFamily, Launch, gemm_cooperative, gemm_register, gemm_subgroup, gemm_tiled};

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
