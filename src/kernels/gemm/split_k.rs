//! Split-K: a GEMM with few workgroups and a large k computes partial sums over splits of k in parallel, and
//! then adds them.

use super::{family_of, gemm_launch, gemm_tiled};
use crate::kernels::gemm::family::GemmFamily;
use crate::kernels::gemm::problem::{Epilogue, Gemm, MAX_TERMS, MIN_K_PER_SPLIT, PixelSet};
use crate::kernels::{Launch, constant_bool, files, grid, grid_of, to_u32};
use crate::wgsl::params;

/// Number of workgroups that occupies a large GPU.
const GPU_WORKGROUPS: usize = 256;

/// Number of workgroups that loads the cores of a software adapter evenly: with five workgroups on two cores,
/// one core would idle for a third of the time.
const SOFTWARE_WORKGROUPS: usize = 8;

/// Chooses the number of splits of k: a pure function of the shape of the full batch and the family, so that
/// the summation order does not depend on the number of valid rows.
pub fn splits(gemm: &Gemm, family: GemmFamily) -> usize {
    let family = family_of(gemm, family);
    // The tiled kernels loop over one split of any k; the others over all of k, where a long k is divided into parts,
    // and over the splits of a transposed A.
    let loops_over_split = matches!(family, GemmFamily::Tiled { .. } | GemmFamily::Cooperative { .. });
    let supported = gemm.transpose_a || loops_over_split;
    // The reduction writes C as one contiguous array, or the pixels of a set.
    let row = gemm.n * gemm.groups;
    let contiguous = match gemm.pixel_set {
        Some(set) => set.reached && gemm.groups == 1,
        None => gemm.c.offset == 0 && gemm.c.stride == row && (gemm.groups == 1 || gemm.c.group == gemm.n),
    };
    let plain = !gemm.pooled
        && (gemm.epilogue == Epilogue::None || loops_over_split)
        && !gemm.accumulate
        && (gemm.k <= MAX_TERMS || loops_over_split);
    if !supported || !contiguous || !plain {
        return 1;
    }
    // A long k needs at least as many splits as loops that are short enough.
    let splits = chosen_splits(gemm, family).max(gemm.k.div_ceil(MAX_TERMS));
    // Rounding the length of a split up to whole steps may reduce the number of splits.
    gemm.k.div_ceil(gemm.k_divided_by(splits))
}

fn chosen_splits(gemm: &Gemm, family: GemmFamily) -> usize {
    if let GemmFamily::Tiled { tiles } = family {
        return gemm_tiled::splits(gemm, tiles);
    }
    let workgroups: usize = gemm_launch(gemm, family).groups.iter().map(|&count| count as usize).product();
    let target =
        if matches!(family, GemmFamily::Subgroup { .. }) { SOFTWARE_WORKGROUPS } else { GPU_WORKGROUPS };
    target.div_ceil(workgroups.max(1)).min(gemm.k / MIN_K_PER_SPLIT).max(1)
}

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        count: u32,
        per_example: u32,
        first_example: u32,
        splits: u32,
        bias_count: u32,
        row_elements: u32,
    }
}

/// Adds the partial sums of a split-K GEMM, `[splits, m, groups * n]`, and those of its fused bias gradient
/// if it has one, `[splits, groups * n]`, and applies the epilogue. Buffers: partial sums, C; then partial
/// sums of the bias gradient, bias gradient; or the operand of the epilogue.
pub fn split_k_sum(gemm: &Gemm) -> Launch {
    let row = gemm.n * gemm.groups;
    let count = gemm.m * row;
    let bias_count = if gemm.bias_grad { row } else { 0 };
    let params = Params {
        count: to_u32(count),
        per_example: to_u32(gemm.m_per_row * row),
        first_example: to_u32(gemm.first_row),
        splits: to_u32(gemm.splits),
        bias_count: to_u32(bias_count),
        row_elements: to_u32(row),
    };
    let elements = count + bias_count;
    let mut launch = Launch::new(&files::SPLIT_K_SUM, &params, WORKGROUP, grid_of(elements, WORKGROUP))
        .channel_vectors(false)
        .flops((elements * (gemm.splits - 1)) as u64)
        .iterations(gemm.splits);
    launch.snippets.push(if gemm.bias_grad {
        &files::SPLIT_K_WITH_BIAS_GRAD
    } else {
        &files::SPLIT_K_GEMM_ONLY
    });
    with_epilogue(launch, gemm)
}

/// Adds the epilogue that follows the sum of the splits.
fn with_epilogue(mut launch: Launch, gemm: &Gemm) -> Launch {
    launch.snippets.push(match gemm.epilogue {
        Epilogue::None => &files::SUM_EPILOGUE_NONE,
        Epilogue::Bias { relu } => {
            launch.declarations.push(constant_bool("RELU", relu));
            &files::SUM_EPILOGUE_BIAS
        }
        Epilogue::ReluGrad => &files::SUM_EPILOGUE_RELU_GRAD,
    });
    launch
}

/// Invocations of the parallel reduction that occupy a large GPU.
const LANES: usize = 128 << 10;

/// Minimum number of splits that a lane adds.
const SPLITS_PER_LANE: usize = 4;

/// Maximum number of lanes per column: at least 8 columns are read as 32 contiguous bytes or more.
const MAX_LANES: usize = 32;

const PARALLEL_WORKGROUP: usize = 256;

params! {
    struct ParallelParams {
        count: u32,
        per_example: u32,
        first_example: u32,
        splits: u32,
        columns: u32,
        row_elements: u32,
    }
}

params! {
    /// Strides of the pixels of a set, in the elements that an invocation writes.
    struct PixelParams {
        lines: u32,
        width: u32,
        c_offset: u32,
        c_stride: u32,
        c_line: u32,
        c_image: u32,
    }
}

/// The parallel variant of [`split_k_sum`], with several invocations per element of a small C, which may be a pixel
/// set. A GEMM with a fused bias gradient has none: only the family of software adapters fuses it. Buffers: partial
/// sums, C; then the operand of the epilogue.
pub fn split_k_sum_parallel(gemm: &Gemm) -> Launch {
    let row = gemm.n * gemm.groups;
    let count = gemm.m * row;
    // The valid elements are whole rows of C if they depend on the batch, and a bias has one element per column.
    let whole_rows = gemm.m_per_row > 0 || matches!(gemm.epilogue, Epilogue::Bias { .. });
    let of_pixels = |set: PixelSet| [gemm.c.offset, gemm.c.stride, set.c_line, set.c_image];
    let strides = gemm.pixel_set.map(of_pixels);
    let vec4 = if whole_rows { row } else { count }.is_multiple_of(4)
        && strides.iter().flatten().all(|stride| stride.is_multiple_of(4));
    let elements = if vec4 { count / 4 } else { count };
    // A power of 2.
    let most = (gemm.splits / SPLITS_PER_LANE).clamp(1, MAX_LANES);
    let lanes = LANES.div_ceil(elements).clamp(1, 1 << most.ilog2()).next_power_of_two();
    let columns = PARALLEL_WORKGROUP / lanes;
    let params = ParallelParams {
        count: to_u32(count),
        per_example: to_u32(gemm.m_per_row * row),
        first_example: to_u32(gemm.first_row),
        splits: to_u32(gemm.splits),
        columns: to_u32(columns),
        row_elements: to_u32(if vec4 { row / 4 } else { row }),
    };
    let groups = grid(elements.div_ceil(columns), 1);
    let mut launch = Launch::new(&files::SPLIT_K_SUM_PARALLEL, &params, to_u32(PARALLEL_WORKGROUP), groups)
        .channel_vectors(vec4)
        .flops((count * (gemm.splits - 1)) as u64)
        .iterations(gemm.splits.div_ceil(lanes));
    match strides {
        None => launch.snippets.push(&files::SUM_STORED_CONTIGUOUSLY),
        Some(strides) => {
            let [c_offset, c_stride, c_line, c_image] =
                strides.map(|stride| to_u32(if vec4 { stride / 4 } else { stride }));
            let [_, lines, width] = gemm.c_pixels().map(to_u32);
            launch = launch.more_params(&PixelParams { lines, width, c_offset, c_stride, c_line, c_image });
            launch.written_elements = Some(count);
            launch.snippets.push(&files::SUM_STORED_AT_PIXELS);
        }
    }
    with_epilogue(launch, gemm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gemm::problem::{ONE, SPLIT_STEP};
    use crate::kernels::{Matrix, Source, TileSet};
    use crate::shape::WindowGeometry;

    const LARGE: GemmFamily = GemmFamily::Tiled { tiles: TileSet::Large };

    fn weight_gradient(m: usize, n: usize, k: usize) -> Gemm {
        Gemm { transpose_a: true, a: Matrix::rows(m), k_per_row: 1, ..Gemm::plain(m, n, k) }
    }

    #[test]
    fn splits_cover_k_and_are_used_only_for_few_tiles() {
        for family in [GemmFamily::Register, LARGE] {
            for k in [1, 127, 128, 255, 256, 1_100, 4_096, 65_537, MAX_TERMS] {
                let gemm = weight_gradient(24, 20, k);
                let splits = splits(&gemm, family);
                let per_split = Gemm { splits, ..gemm }.k_per_split();
                // The tiled family splits only if the time saved exceeds that of the additional dispatch.
                let least = if family == LARGE { 1_100 } else { 2 * MIN_K_PER_SPLIT };
                assert_eq!(splits > 1, k >= least, "{family}: k = {k}");
                assert!(per_split.is_multiple_of(SPLIT_STEP));
                assert!(splits * per_split >= k && (splits - 1) * per_split < k);
                assert!(splits <= if family == LARGE { 512 } else { GPU_WORKGROUPS }, "{splits}");
            }
            let many = weight_gradient(4_096, 4_096, 4_096);
            assert_eq!(splits(&many, family), 1, "{family}: the tiles occupy the GPU");
        }
        let software = GemmFamily::Subgroup { lanes: 8 };
        assert_eq!(splits(&weight_gradient(24, 20, 4_096), software), SOFTWARE_WORKGROUPS, "one tile");
        assert_eq!(splits(&weight_gradient(512, 64, 4_096), software), 1);
    }

    #[test]
    fn split_k_requires_a_contiguous_result() {
        let base = weight_gradient(24, 20, 4_096);
        assert!(splits(&base, LARGE) > 1);
        for other in [
            Gemm { accumulate: true, ..base },
            Gemm { pooled: true, ..base },
            Gemm { c: Matrix::rows(24), ..base },
            Gemm { c: Matrix { offset: 4, ..base.c }, ..base },
            Gemm { groups: 2, ..base },
        ] {
            assert_eq!(splits(&other, LARGE), 1, "{other:?}");
        }
        // The kernel that adds the splits also applies the epilogue, in the families that split any GEMM.
        let biased = Gemm { epilogue: Epilogue::Bias { relu: true }, ..base };
        assert_eq!(
            (splits(&biased, GemmFamily::Register), splits(&biased, LARGE)),
            (1, splits(&base, LARGE))
        );
        let long = Gemm { k: 10 * MAX_TERMS, ..base };
        assert_eq!(splits(&long, GemmFamily::Register), 1, "divided into parts instead");
        let split = Gemm { splits: splits(&long, LARGE), ..long };
        assert!(split.splits > 1 && split.k_per_split() <= MAX_TERMS);
        let grouped = Gemm { groups: 2, c: Matrix { stride: 40, group: 20, offset: 0 }, ..base };
        assert!(splits(&grouped, LARGE) > 1);
        // The pixels of a set are split, too: the kernel that adds the splits stores them where they belong.
        let window = WindowGeometry { input: [4, 6], ..ONE };
        let set = PixelSet { first: [0, 0], b_tap: [0, 0], c_line: 480, c_image: 1_920, reached: true };
        let source = Source::Gradients(window);
        let pixels = Gemm { transpose_a: false, source, pixel_set: Some(set), c: Matrix::rows(40), ..base };
        assert_eq!((splits(&pixels, GemmFamily::Register), splits(&pixels, LARGE) > 1), (1, true));
        let partial = pixels.of_partial_sums();
        assert_eq!(
            (partial.c.stride, partial.pixel_set.map(|set| [set.c_line, set.c_image])),
            (20, Some([120, 480]))
        );
        let unreached = Gemm { pixel_set: Some(PixelSet { reached: false, ..set }), ..pixels };
        assert_eq!(splits(&unreached, LARGE), 1);
        // With a row-major A, only the tiled family splits k.
        for rows in [24, 4] {
            let rows = Gemm::plain(rows, 20, 4_096);
            assert_eq!((splits(&rows, GemmFamily::Register), splits(&rows, LARGE) > 1), (1, true));
        }
    }
}
