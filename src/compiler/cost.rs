//! Cost model: constants from which the compiler estimates the cost of each algorithm on a class of devices.

use crate::gpu::{AdapterReport, DeviceKind};

/// Cost constants of a class of devices. The unit is one multiply-add of a GEMM on that class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    /// Rows and columns of the smallest GEMM tile: estimates round the size of a result up to multiples of them.
    pub tile: [usize; 2],
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
    /// multiply-add, 4.2 ns per gathered element, 1.5 ns per product of a separately computed gradient
    /// element, 60 us per dispatch. Winograd's speedup is 1.7 with 32 channels and 2.5 with 64 channels for
    /// 3x3 kernels, and 1.8 from 32 to 64 channels for 5x5 kernels.
    pub const SOFTWARE: CostModel = CostModel {
        tile: [32, 32],
        gathered: 80,
        element_term: 30,
        depthwise_term: 10,
        dispatches: 1_000_000,
        winograd: Some(WinogradCost { channels: 32, tiles: 256, gain: 2 }),
        pads_channels: true,
        parallel_reductions: false,
    };

    /// Constants of integrated GPUs, estimated for 0.5 tera multiply-adds/s, 100 GB/s and 4 us per dispatch
    /// (an Apple M3's published peaks, of which a tiled GEMM is expected to reach 45 %). A gathered element
    /// moves 8 bytes; a product of a separately computed gradient element reads 4 bytes from a cache.
    pub const INTEGRATED: CostModel = CostModel {
        tile: [32, 16],
        gathered: 40,
        element_term: 10,
        depthwise_term: 10,
        dispatches: 4_000_000,
        winograd: None,
        pads_channels: false,
        parallel_reductions: true,
    };

    /// Constants of discrete GPUs, estimated in the same way for 18 tera multiply-adds/s, 1 TB/s and 3.5 us
    /// per dispatch (an RTX 4090's published peaks).
    pub const DISCRETE: CostModel = CostModel {
        tile: [32, 16],
        gathered: 144,
        element_term: 40,
        depthwise_term: 40,
        dispatches: 120_000_000,
        winograd: None,
        pads_channels: false,
        parallel_reductions: true,
    };

    /// Returns the number of elements of an `[m, n]` GEMM result, with `m` and `n` rounded up to whole tiles.
    pub(crate) fn tiled_results(&self, m: usize, n: usize) -> usize {
        let [rows, columns] = self.tile.map(|side| side.max(1));
        let whole = |size: usize, side| size.checked_next_multiple_of(side).unwrap_or(usize::MAX);
        whole(m, rows).saturating_mul(whole(n, columns))
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
