use super::winograd::{Tiles, WINOGRAD_FIELDS, WINOGRAD_PARAMS, WORKGROUP, WinogradParams};
use super::{BITS, Epilogue, GRID, Kernel, LARGEST, Launch, SCALARS, Snippet, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "winograd_output",
    body: include_str!("../../shaders/winograd_output.wgsl"),
    snippets: &[&WINOGRAD_PARAMS, &SCALARS, &GRID, &BITS],
    bindings: &[(2, Access::Read), (3, Access::Read), (4, Access::ReadWrite)],
    params: WINOGRAD_FIELDS,
    params_bytes: size_of::<WinogradParams>(),
};

static STORE_ROWS: Snippet = Snippet {
    name: "winograd_store_rows",
    text: include_str!("../../shaders/shared/winograd_store_rows.wgsl"),
    bindings: &[],
};
static STORE_POOLED: Snippet = Snippet {
    name: "winograd_store_pooled",
    text: include_str!("../../shaders/shared/winograd_store_pooled.wgsl"),
    bindings: &[(5, Access::ReadWrite)],
};

/// Each tile's results from its components; if `pooled`, of each 2x2 window of them (their height and width are even) the largest,
/// and its number in the window. Buffers: components, what the epilogue reads (anything, if nothing), y, positions if pooled.
pub fn winograd_output(tiles: &Tiles, channels: usize, epilogue: Epilogue, pooled: bool) -> Launch {
    let params = WinogradParams::new(tiles, channels, epilogue);
    let flops = if tiles.taps() == 5 { 288 } else { 110 };
    let invocations = tiles.count() * channels / 4;
    let mut launch = Launch::new(&KERNEL, &params, WORKGROUP, grid_of(invocations, WORKGROUP))
        .flops(flops * (tiles.count() * channels) as u64)
        .winograd(tiles.taps());
    launch.snippets.extend(if pooled { vec![&STORE_POOLED, &LARGEST] } else { vec![&STORE_ROWS] });
    launch
}
