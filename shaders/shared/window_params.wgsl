// What kernels with a window are told; twin of kernels::WindowParams.
struct Params {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    pad_top: u32,
    pad_left: u32,
    channels: u32,
    groups: u32,
    first_row: u32,
    images: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
