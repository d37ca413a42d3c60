//! Products with few workgroups and long sums: the sum is cut into splits that are computed side by side and added up after.

use super::{gemm, gemm_tiled};
use crate::kernels::gemm::family::GemmFamily;
use crate::kernels::gemm::problem::{Epilogue, Gemm, MAX_TERMS, SPLIT_TERMS};

/// Workgroups that keep a large GPU busy.
const WORKGROUPS: usize = 256;

/// Workgroups that keep the cores of a processor equally busy: five for two cores would leave one idle for a third of the time.
const ON_CORES: usize = 8;

/// Into how many splits the sum of a product is cut: a pure function of its shape and the family. The full batch is cut, so
/// that the order of a sum does not depend on the rows in use.
pub fn splits(product: &Gemm, family: GemmFamily) -> usize {
    let able = match family {
        GemmFamily::Subgroup { .. } | GemmFamily::Register => product.transpose_a,
        GemmFamily::Tiled { largest } => product.transpose_a || gemm_tiled::size(product, largest).is_some(),
        GemmFamily::Cooperative { .. } => product.transpose_a || !gemm_tiled::is_narrow(product),
    };
    // C must be one piece, and nothing else may be done to it.
    let dense = product.c.offset == 0
        && product.c.stride == product.n * product.groups
        && (product.groups == 1 || product.c.group == product.n);
    let plain = !product.pooled
        && product.pixel_set.is_none()
        && product.epilogue == Epilogue::None
        && !product.accumulate
        && product.k <= MAX_TERMS;
    if !able || !dense || !plain {
        return 1;
    }
    let workgroups: usize = gemm(product, family).groups.iter().map(|&count| count as usize).product();
    let busy = if matches!(family, GemmFamily::Subgroup { .. }) { ON_CORES } else { WORKGROUPS };
    let wanted = busy.div_ceil(workgroups.max(1)).min(product.k / SPLIT_TERMS).max(1);
    // Splits are whole steps: as many as have terms.
    product.k.div_ceil(product.terms_of(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gemm::problem::STEP;
    use crate::kernels::{Matrix, TileSize};

    const LARGE: GemmFamily = GemmFamily::Tiled { largest: TileSize::Large };

    fn gradient(m: usize, n: usize, k: usize) -> Gemm {
        Gemm { transpose_a: true, a: Matrix::rows(m), k_per_row: 1, ..Gemm::plain(m, n, k) }
    }

    #[test]
    fn long_sums_of_few_tiles_are_cut_and_cover_all_terms() {
        for family in [GemmFamily::Register, LARGE] {
            for k in [1, 127, 128, 255, 256, 1_100, 4_096, 65_537, MAX_TERMS] {
                let product = gradient(24, 20, k);
                let splits = splits(&product, family);
                let terms = Gemm { splits, ..product }.split_terms();
                assert_eq!(splits > 1, k >= 2 * SPLIT_TERMS, "{k} terms");
                assert!(terms.is_multiple_of(STEP) && splits * terms >= k && (splits - 1) * terms < k);
                assert!(splits <= WORKGROUPS, "{splits}");
            }
            let many = gradient(4_096, 4_096, 4_096);
            assert_eq!(splits(&many, family), 1, "{family}: the tiles are enough");
        }
        let cores = GemmFamily::Subgroup { lanes: 8 };
        assert_eq!(splits(&gradient(24, 20, 4_096), cores), ON_CORES, "one tile");
        assert_eq!(splits(&gradient(512, 64, 4_096), cores), 1);
    }

    #[test]
    fn only_a_plain_sum_into_a_dense_result_is_cut() {
        let whole = gradient(24, 20, 4_096);
        assert!(splits(&whole, LARGE) > 1);
        for other in [
            Gemm { accumulate: true, ..whole },
            Gemm { epilogue: Epilogue::Bias { relu: false }, ..whole },
            Gemm { c: Matrix::rows(24), ..whole },
            Gemm { c: Matrix { offset: 4, ..whole.c }, ..whole },
            Gemm { groups: 2, ..whole },
            Gemm { k: MAX_TERMS + 1, ..whole },
        ] {
            assert_eq!(splits(&other, LARGE), 1, "{other:?}");
        }
        let grouped = Gemm { groups: 2, c: Matrix { stride: 40, group: 20, offset: 0 }, ..whole };
        assert!(splits(&grouped, LARGE) > 1);
        // By rows, registers go through a sum segment by segment.
        let rows = Gemm::plain(24, 20, 4_096);
        assert_eq!((splits(&rows, GemmFamily::Register), splits(&rows, LARGE) > 1), (1, true));
    }
}
