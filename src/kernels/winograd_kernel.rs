use super::winograd::{KERNEL_FIELDS, KernelParams, WORKGROUP};
use super::{GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "winograd_kernel",
    body: include_str!("../../shaders/winograd_kernel.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: KERNEL_FIELDS,
    params_bytes: size_of::<KernelParams>(),
};

/// Components of square kernels of so many taps a side, `[components, c_in, c_out]`; output channels are a multiple of 4.
/// Buffers: kernel, components.
pub fn winograd_kernel(taps: usize, c_in: usize, c_out: usize, flipped: bool) -> Launch {
    let params = KernelParams::new(c_in, c_out, flipped);
    let flops = if taps == 5 { 312 } else { 99 };
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(c_in * c_out / 4, WORKGROUP))
        .flops(flops * (c_in * c_out) as u64)
        .winograd(taps)
}
