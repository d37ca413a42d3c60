use super::WORKGROUP;
use crate::kernels::Epilogue;
use crate::kernels::winograd::{Tiles, WinogradParams};
use crate::kernels::{Launch, files, grid_of};

/// Each tile's results from its components; if `pooled`, of each 2x2 window of them (their height and width are even) the largest,
/// and its number in the window. Buffers: components, what the epilogue reads (anything, if nothing), y, positions if pooled.
pub fn winograd_output(tiles: &Tiles, channels: usize, epilogue: Epilogue, pooled: bool) -> Launch {
    let params = WinogradParams::new(tiles, channels, epilogue);
    let flops = if tiles.taps() == 5 { 288 } else { 110 };
    let invocations = tiles.count() * channels / 4;
    let mut launch =
        Launch::new(&files::WINOGRAD_OUTPUT, &params, WORKGROUP, grid_of(invocations, WORKGROUP))
            .flops(flops * (tiles.count() * channels) as u64)
            .winograd(tiles.taps());
    launch.snippets.extend(if pooled {
        vec![&files::WINOGRAD_STORE_POOLED, &files::LARGEST]
    } else {
        vec![&files::WINOGRAD_STORE_ROWS]
    });
    launch
}
