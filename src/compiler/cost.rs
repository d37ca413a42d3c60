//! What operations cost on a class of devices: the constants behind every choice between algorithms.

use crate::gpu::{AdapterReport, DeviceKind};

/// The constants of a class of devices. Costs are in multiply-adds of a GEMM on that class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    /// Rows and columns of a GEMM are charged in multiples of this.
    pub tile: usize,
    /// One element gathered into a matrix, or put back from one.
    pub gathered: usize,
    /// One term of a weight gradient that is computed by itself.
    pub element_term: usize,
    /// One term of the weight gradient of a depthwise convolution.
    pub depthwise_term: usize,
    /// The dispatches that a weight gradient in part takes beyond those of the whole one.
    pub dispatches: usize,
    /// Winograd's transforms, where they are known to pay.
    pub winograd: Option<WinogradCost>,
    /// Whether images with 3, 7, 11 .. channels are padded by one: it saves compiling another shader.
    pub pads_channels: bool,
}

/// Where Winograd's transforms pay, and what they gain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WinogradCost {
    /// Input and output channels, at least.
    pub channels: usize,
    /// Tiles of 4x4 results in a batch, at least.
    pub tiles: usize,
    /// How many times less a weight gradient costs.
    pub gain: usize,
}

impl CostModel {
    /// Software adapters, measured on llvmpipe (Mesa 22.3.6, LLVM 15, two cores): 0.05 ns a multiply-add, 4.2 ns a gathered
    /// element, 1.5 ns a term by itself, 60 us a dispatch. Transforms gain 1.7 times with 32 channels and 2.5 with 64 by 3x3, 1.8
    /// from 32 to 64 by 5x5.
    pub const SOFTWARE: CostModel = CostModel {
        tile: 32,
        gathered: 80,
        element_term: 30,
        depthwise_term: 10,
        dispatches: 1_000_000,
        winograd: Some(WinogradCost { channels: 32, tiles: 256, gain: 2 }),
        pads_channels: true,
    };

    /// Integrated GPUs, estimated for 0.5 tera multiply-adds/s, 100 GB/s and 4 us a dispatch (an Apple M3's published peaks, of
    /// which a tiled GEMM is expected to reach 45 %): a gathered element moves 8 bytes, a term by itself 4 from a cache.
    pub const INTEGRATED: CostModel = CostModel {
        tile: 64,
        gathered: 40,
        element_term: 10,
        depthwise_term: 10,
        dispatches: 4_000_000,
        winograd: None,
        pads_channels: false,
    };

    /// Discrete GPUs, estimated as integrated ones are, for 18 tera multiply-adds/s, 1 TB/s and 3.5 us a dispatch (an RTX 4090's
    /// published peaks).
    pub const DISCRETE: CostModel = CostModel {
        tile: 64,
        gathered: 144,
        element_term: 40,
        depthwise_term: 40,
        dispatches: 120_000_000,
        winograd: None,
        pads_channels: false,
    };

    /// The number of results of an `[m, n]` GEMM with both sides rounded up to whole tiles.
    pub(crate) fn tiled_results(&self, m: usize, n: usize) -> usize {
        m.next_multiple_of(self.tile).saturating_mul(n.next_multiple_of(self.tile))
    }

    /// That of an adapter's class. Unknown and virtual GPUs count as integrated.
    pub fn of(report: &AdapterReport) -> Self {
        match report.kind {
            _ if report.software => Self::SOFTWARE,
            DeviceKind::Discrete => Self::DISCRETE,
            _ => Self::INTEGRATED,
        }
    }
}
