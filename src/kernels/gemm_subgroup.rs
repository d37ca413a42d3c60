use super::gemm::{FIELDS, GEMM, Gemm, Params, Tile, launch as launch_gemm};
use super::{GRID, Kernel, Launch, SCALARS, constant_u32, grid, index};

pub(super) static KERNEL: Kernel = Kernel {
    name: "gemm_subgroup",
    body: include_str!("../../shaders/gemm_subgroup.wgsl"),
    snippets: &[&GEMM, &SCALARS, &GRID],
    bindings: &[],
    params: FIELDS,
    params_bytes: size_of::<Params>(),
};

pub(super) fn launch(gemm: &Gemm, lanes: usize) -> Launch {
    // Measured on software Vulkan: 16x8 is best, and 32x4 where 16x8 would leave lanes idle.
    let tile = if gemm.n <= 32 { Tile { rows: 32, columns4: 1 } } else { Tile { rows: 16, columns4: 2 } };
    let workgroup = gemm.n.div_ceil(4 * tile.columns4).next_multiple_of(8).min(64);
    let tiles = gemm.m.div_ceil(tile.rows) * gemm.n.div_ceil(4 * tile.columns4 * workgroup);
    let mut launch = launch_gemm(&KERNEL, gemm, tile, workgroup, grid(tiles, gemm.groups));
    launch.constants.extend([
        constant_u32("LANES", index(lanes)),
        constant_u32("SHARES", index(tile.rows / lanes)),
        constant_u32("ROWS4", index(tile.rows / 4)),
    ]);
    launch
}
