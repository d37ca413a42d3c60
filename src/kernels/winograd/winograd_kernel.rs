use super::{WORKGROUP, with_transforms};
use crate::kernels::winograd::KernelParams;
use crate::kernels::{Launch, files, grid_of};

/// Winograd kernel transform: computes the components of `taps` x `taps` kernels, `[components, c_in,
/// c_out]`. The kernels are rotated by 180 degrees if `flipped`; `c_out` is a multiple of 4. Buffers: kernel,
/// components.
pub fn winograd_kernel(taps: usize, c_in: usize, c_out: usize, flipped: bool) -> Launch {
    let params = KernelParams::new(c_in, c_out, flipped);
    let flops = if taps == 5 { 312 } else { 99 };
    let launch =
        Launch::new(&files::WINOGRAD_KERNEL, &params, WORKGROUP, grid_of(c_in * c_out / 4, WORKGROUP))
            .flops(flops * (c_in * c_out) as u64);
    with_transforms(launch, taps)
}
