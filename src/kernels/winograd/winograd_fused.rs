use crate::gpu::AdapterReport;
use crate::kernels::winograd::{Tiles, WinogradParams};
use crate::kernels::{Epilogue, Launch, files, grid, to_u32};
use crate::wgsl::params;

/// Elements of a transformed tile of F(2x2, 3x3).
pub const FUSED_POINTS: usize = 16;

/// Blocks of 4x4 outputs, and output channels, of a workgroup.
const BLOCKS: usize = 8;
const CHANNELS: usize = 32;

/// Invocations of a workgroup: 16 for each point.
const WORKGROUP: u32 = 256;

/// Input channels that are transformed at a time. With 8, workgroup memory and registers would halve the number of
/// workgroups per core.
const STEP: usize = 4;

/// Whether the adapter's workgroups are large enough for the fused kernel, which needs 256 invocations and 16 KiB.
pub fn supports_winograd_fused(report: &AdapterReport) -> bool {
    let bytes = 4 * STEP * FUSED_POINTS * (4 * BLOCKS + CHANNELS);
    bytes <= report.max_workgroup_memory as usize && WORKGROUP <= report.max_invocations
}

params! {
    struct FusedWinogradParams {
        out_channels: u32,
    }
}

/// Winograd convolution F(2x2, 3x3) with its transforms and an epilogue, from `from` to `to` channels, which are
/// multiples of 4. `pooled` fuses a 2x2 max pooling, which stores the largest output of each window and its position in the window; the height and
/// width of the output are then even. `tiles` covers the whole batch. Buffers: x, transformed kernels, operand of
/// the epilogue (any buffer of vec4 if it has none), y, then positions if pooled.
pub fn winograd_fused(tiles: &Tiles, [from, to]: [usize; 2], epilogue: Epilogue, pooled: bool) -> Launch {
    let params = WinogradParams::new(tiles, from, epilogue);
    let groups = tiles.count().div_ceil(BLOCKS) * to.div_ceil(CHANNELS);
    // Per 2x2 tile: 32 additions per input channel, 24 per output channel, 16 multiply-adds for each pair.
    let flops = 4 * tiles.count() * (32 * from + 24 * to + 2 * FUSED_POINTS * from * to);
    let mut launch = Launch::new(&files::WINOGRAD_FUSED, &params, WORKGROUP, grid(groups, 1))
        .more_params(&FusedWinogradParams { out_channels: to_u32(to) })
        .flops(flops as u64)
        .iterations(from.div_ceil(STEP) + 16);
    launch.constants.push(("K_STEP", to_u32(STEP)));
    launch.snippets.extend(if pooled {
        vec![&files::WINOGRAD_FUSED_POOLED, &files::LARGEST]
    } else {
        vec![&files::WINOGRAD_FUSED_ROWS]
    });
    launch
}
