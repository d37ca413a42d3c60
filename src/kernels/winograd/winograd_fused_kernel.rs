use super::WORKGROUP;
use crate::kernels::winograd::KernelParams;
use crate::kernels::{Launch, files, grid_of};

/// Kernel transform of F(2x2, 3x3) for the fused kernel: the 16 points of 3x3 kernels, `[points, c_in, c_out]`,
/// or `[points, c_out, c_in]` of the kernels rotated by 180 degrees if `flipped`. Buffers: kernel, points.
pub fn winograd_fused_kernel(c_in: usize, c_out: usize, flipped: bool) -> Launch {
    let params = KernelParams::new(c_in, c_out, flipped);
    let flops = 7 * 5 * (c_in * c_out) as u64;
    Launch::new(&files::WINOGRAD_FUSED_KERNEL, &params, WORKGROUP, grid_of(c_in * c_out, WORKGROUP))
        .flops(flops)
}
