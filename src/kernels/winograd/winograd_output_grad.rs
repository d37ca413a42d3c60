use super::{WORKGROUP, with_transforms};
use crate::kernels::Epilogue;
use crate::kernels::winograd::{Tiles, WinogradParams};
use crate::kernels::{Launch, files, grid_of};

/// Computes the Winograd components of each tile's output gradients, `[components, tiles, channels]`: the
/// adjoint of the output transform. Buffers: dy, components.
pub fn winograd_output_grad(tiles: &Tiles, channels: usize) -> Launch {
    let params = WinogradParams::new(tiles, channels, Epilogue::None);
    let flops = if tiles.taps() == 5 { 240 } else { 80 };
    let invocations = tiles.count() * channels / 4;
    let launch =
        Launch::new(&files::WINOGRAD_OUTPUT_GRAD, &params, WORKGROUP, grid_of(invocations, WORKGROUP))
            .flops(flops * (tiles.count() * channels) as u64);
    with_transforms(launch, tiles.taps())
}
