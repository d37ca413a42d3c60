use super::{WORKGROUP, with_transforms};
use crate::kernels::Epilogue;
use crate::kernels::winograd::{Tiles, WinogradParams};
use crate::kernels::{Launch, files, grid_of};

/// Winograd output transform: computes each tile's outputs from its components, and applies an epilogue.
/// `pooled` fuses a 2x2 max pooling, which stores the largest output of each window and its position in the
/// window; the height and width of the output are then even. Buffers: components, operand of the epilogue
/// (any buffer if it has none), y, then positions if pooled.
pub fn winograd_output(tiles: &Tiles, channels: usize, epilogue: Epilogue, pooled: bool) -> Launch {
    let params = WinogradParams::new(tiles, channels, epilogue);
    let flops = if tiles.taps() == 5 { 288 } else { 110 };
    let invocations = tiles.count() * channels / 4;
    let launch = Launch::new(&files::WINOGRAD_OUTPUT, &params, WORKGROUP, grid_of(invocations, WORKGROUP))
        .flops(flops * (tiles.count() * channels) as u64);
    let mut launch = with_transforms(launch, tiles.taps());
    launch.snippets.extend(if pooled {
        vec![&files::WINOGRAD_STORE_POOLED, &files::LARGEST]
    } else {
        vec![&files::WINOGRAD_STORE_ROWS]
    });
    launch
}
