use super::winograd::{Tiles, WINOGRAD_FIELDS, WINOGRAD_PARAMS, WORKGROUP, WinogradParams};
use super::{BITS, Epilogue, GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "winograd_output",
    body: include_str!("../../shaders/winograd_output.wgsl"),
    snippets: &[&WINOGRAD_PARAMS, &SCALARS, &GRID, &BITS],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: WINOGRAD_FIELDS,
    params_bytes: size_of::<WinogradParams>(),
};

/// Each tile's results from its components. Buffers: components, what the epilogue reads (anything, if nothing), y.
pub fn winograd_output(tiles: &Tiles, channels: usize, epilogue: Epilogue) -> Launch {
    let params = WinogradParams::new(tiles, channels, epilogue);
    let invocations = tiles.count() * channels / 4;
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(invocations, WORKGROUP))
        .flops(110 * (tiles.count() * channels) as u64)
}
