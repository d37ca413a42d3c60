//! Cost model: constants from which the compiler estimates the cost of each algorithm on a class of devices.

use crate::gpu::{AdapterReport, DeviceKind};
use crate::kernels::{Gemm, GemmFamily, gemm_time};

/// Cost constants of a class of devices. The unit is the time of one multiply-add: on software adapters of a GEMM,
/// on GPUs at the peak of the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    /// Rows and columns of the smallest GEMM tile: estimates round the size of a result up to multiples of them.
    /// `None` if the estimate of the GEMM family is used, which chooses its tiles.
    pub tile: Option<[usize; 2]>,
    /// Cost of gathering one element into a matrix, or of scattering one element from it.
    pub gathered: usize,
    /// Cost of one product of [`crate::low_level::GradientStrategy::Elements`], which computes each element
    /// of a weight gradient as a dot product.
    pub element_term: usize,
    /// Cost of one product in the weight gradient of a depthwise convolution.
    pub depthwise_term: usize,
    /// Cost of the dispatches that a partial weight gradient needs in addition to those of the dense
    /// gradient.
    pub dispatches: usize,
    /// Minimum sizes for Winograd convolutions, and their speedup; `None` if no speedup has been measured.
    pub winograd: Option<WinogradCost>,
    /// Whether images with 3, 7, 11 .. channels are padded to a multiple of 4 channels. They then use the
    /// same shader as other convolutions, which saves the time to compile another one.
    pub pads_channels: bool,
    /// Whether the invocations of a workgroup share the terms of a sum, such as the batch statistics of a
    /// channel. On software adapters one invocation per partial sum is faster.
    pub parallel_reductions: bool,
}

/// Minimum sizes for which a Winograd convolution is faster, and its speedup.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WinogradCost {
    /// Minimum number of input channels and of output channels.
    pub channels: usize,
    /// Minimum number of 4x4 output tiles in a batch.
    pub tiles: usize,
    /// Factor by which Winograd reduces the estimated cost of a weight gradient.
    pub gain: usize,
}

impl CostModel {
    /// Constants of software adapters, measured on llvmpipe (Mesa 22.3.6, LLVM 15, two cores): 0.05 ns per
    /// multiply-add (a GEMM of at most 16 columns computes 16), 4.2 ns per gathered element, 1.5 ns per product of a
    /// separately computed gradient element, 60 us per dispatch. Winograd's speedup is 1.7 with 32 channels and 2.5
    /// with 64 channels for 3x3 kernels, and 1.8 from 32 to 64 channels for 5x5 kernels.
    pub const SOFTWARE: CostModel = CostModel {
        tile: Some([32, 16]),
        gathered: 80,
        element_term: 30,
        depthwise_term: 10,
        dispatches: 1_000_000,
        winograd: Some(WinogradCost { channels: 32, tiles: 256, gain: 2 }),
        pads_channels: true,
        parallel_reductions: false,
    };

    /// Constants of integrated GPUs, derived as those of [`CostModel::DISCRETE`] for 1.8 tera multiply-adds/s,
    /// 100 GB/s and 4 us per dispatch (an Apple M3's published peaks).
    pub const INTEGRATED: CostModel =
        CostModel { gathered: 216, depthwise_term: 36, dispatches: 14_400_000, ..CostModel::DISCRETE };

    /// Constants of discrete GPUs, derived for 41 tera multiply-adds/s, 1 TB/s and 3.5 us per dispatch (an RTX
    /// 4090's published peaks).
    ///
    /// - A gathered element moves 12 bytes: for four elements of a row, a memory sector of 32 bytes is read and 16
    ///   bytes are written. Its instructions (of Mesa's compilers 46 issue slots on RDNA 3 and 82 on NVIDIA, where a
    ///   multiply-add is one) take at most a sixth of that time, and are hidden.
    /// - A product of a separately computed element takes 26 issue slots on RDNA 3 and 40 on NVIDIA, one of which is
    ///   its multiply-add. Its two loads hit a cache and take less: the lanes of a workgroup read other channels
    ///   of the same pixel.
    /// - A partial weight gradient has two more dispatches than the dense one: gather and scatter.
    /// - A product of a depthwise weight gradient reads 8 bytes, which four products share through a cache.
    pub const DISCRETE: CostModel = CostModel {
        tile: None,
        gathered: 492,
        element_term: 40,
        depthwise_term: 82,
        dispatches: 287_000_000,
        winograd: None,
        pads_channels: false,
        parallel_reductions: true,
    };

    /// Returns the cost of `groups` GEMMs of `[m, k]` and `[k, n]`.
    pub(crate) fn gemm(&self, [m, n, k]: [usize; 3], groups: usize, family: GemmFamily) -> usize {
        let Some(tile) = self.tile else {
            return gemm_time(&Gemm { groups, ..Gemm::plain(m, n, k) }, family);
        };
        let [rows, columns] = tile.map(|side| side.max(1));
        let whole = |size: usize, side| size.checked_next_multiple_of(side).unwrap_or(usize::MAX);
        let results = whole(m, rows).saturating_mul(whole(n, columns));
        results.saturating_mul(k).saturating_mul(groups)
    }

    /// Returns the cost model of an adapter's class. Unknown and virtual GPUs count as integrated.
    pub fn of(report: &AdapterReport) -> Self {
        match report.kind {
            _ if report.software => Self::SOFTWARE,
            DeviceKind::Discrete => Self::DISCRETE,
            _ => Self::INTEGRATED,
        }
    }
}
