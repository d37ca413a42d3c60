use super::WORKGROUP;
use crate::kernels::winograd::KernelParams;
use crate::kernels::{Launch, files, grid_of};

/// The kernels' gradient from its components. Buffers: components, dw.
pub fn winograd_kernel_grad(taps: usize, c_in: usize, c_out: usize) -> Launch {
    let params = KernelParams::new(c_in, c_out, false);
    let flops = if taps == 5 { 390 } else { 117 };
    Launch::new(&files::WINOGRAD_KERNEL_GRAD, &params, WORKGROUP, grid_of(c_in * c_out / 4, WORKGROUP))
        .flops(flops * (c_in * c_out) as u64)
        .winograd(taps)
}
