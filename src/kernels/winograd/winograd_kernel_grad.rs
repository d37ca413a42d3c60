use super::{WORKGROUP, with_transforms};
use crate::kernels::winograd::KernelParams;
use crate::kernels::{Launch, files, grid_of};

/// Weight gradient from its Winograd components: the adjoint of the kernel transform. Buffers: components,
/// dw.
pub fn winograd_kernel_grad(taps: usize, c_in: usize, c_out: usize) -> Launch {
    let params = KernelParams::new(c_in, c_out, false);
    let flops = if taps == 5 { 390 } else { 117 };
    let launch =
        Launch::new(&files::WINOGRAD_KERNEL_GRAD, &params, WORKGROUP, grid_of(c_in * c_out / 4, WORKGROUP))
            .flops(flops * (c_in * c_out) as u64);
    with_transforms(launch, taps)
}
