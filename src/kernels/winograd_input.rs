use super::winograd::{Tiles, WINOGRAD_FIELDS, WINOGRAD_PARAMS, WORKGROUP, WinogradParams};
use super::{Epilogue, GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "winograd_input",
    body: include_str!("../../shaders/winograd_input.wgsl"),
    snippets: &[&WINOGRAD_PARAMS, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: WINOGRAD_FIELDS,
    params_bytes: size_of::<WinogradParams>(),
};

/// Components of the inputs under each tile, `[components, tiles, channels]`; channels are a multiple of 4. Buffers: x, components.
pub fn winograd_input(tiles: &Tiles, channels: usize) -> Launch {
    let params = WinogradParams::new(tiles, channels, Epilogue::None);
    let flops = if tiles.taps() == 5 { 640 } else { 144 };
    let invocations = tiles.count() * channels / 4;
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(invocations, WORKGROUP))
        .flops(flops * (tiles.count() * channels) as u64)
        .winograd(tiles.taps())
}
