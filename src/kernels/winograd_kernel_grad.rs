use super::winograd::{KERNEL_FIELDS, KernelParams, WORKGROUP};
use super::{GRID, Kernel, Launch, SCALARS, grid_of};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "winograd_kernel_grad",
    body: include_str!("../../shaders/winograd_kernel_grad.wgsl"),
    snippets: &[&SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: KERNEL_FIELDS,
    params_bytes: size_of::<KernelParams>(),
};

/// The kernels' gradient from its components. Buffers: components, dw.
pub fn winograd_kernel_grad(taps: usize, c_in: usize, c_out: usize) -> Launch {
    let params = KernelParams::new(c_in, c_out, false);
    let flops = if taps == 5 { 390 } else { 117 };
    Launch::new(&KERNEL, &params, WORKGROUP, grid_of(c_in * c_out / 4, WORKGROUP))
        .flops(flops * (c_in * c_out) as u64)
        .winograd(taps)
}
