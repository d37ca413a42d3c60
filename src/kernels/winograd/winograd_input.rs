use super::{WORKGROUP, with_transforms};
use crate::kernels::Epilogue;
use crate::kernels::winograd::{Tiles, WinogradParams};
use crate::kernels::{Launch, files, grid_of};

/// Winograd input transform: computes the components of the inputs that each tile reads, `[components, tiles,
/// channels]`. The number of channels is a multiple of 4. Buffers: x, components.
pub fn winograd_input(tiles: &Tiles, channels: usize) -> Launch {
    let params = WinogradParams::new(tiles, channels, Epilogue::None);
    let flops = if tiles.taps() == 5 { 640 } else { 144 };
    let invocations = tiles.count() * channels / 4;
    let launch = Launch::new(&files::WINOGRAD_INPUT, &params, WORKGROUP, grid_of(invocations, WORKGROUP))
        .flops(flops * (tiles.count() * channels) as u64);
    with_transforms(launch, tiles.taps())
}
