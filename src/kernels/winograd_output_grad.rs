use super::winograd::{Tiles, WINOGRAD_FIELDS, WINOGRAD_PARAMS, WORKGROUP, WinogradParams};
use super::{Epilogue, GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "winograd_output_grad",
    body: include_str!("../../shaders/winograd_output_grad.wgsl"),
    snippets: &[&WINOGRAD_PARAMS, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: WINOGRAD_FIELDS,
    params_bytes: size_of::<WinogradParams>(),
};

/// Components of the gradients of each tile's results, `[components, tiles, channels]`. Buffers: dy, components.
pub fn winograd_output_grad(tiles: &Tiles, channels: usize) -> Launch {
    let params = WinogradParams::new(tiles, channels, Epilogue::None);
    let flops = if tiles.taps() == 5 { 240 } else { 80 };
    let invocations = tiles.count() * channels / 4;
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(invocations, WORKGROUP))
        .flops(flops * (tiles.count() * channels) as u64)
        .winograd(tiles.taps())
}
