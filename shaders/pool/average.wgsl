// Number of kernel positions along one axis that lie on the image: those taps with pad <= begin + tap *
// dilation < pad + size, where `begin` is counted from the edge of the padding.
fn taps_inside(begin: u32, taps: u32, dilation: u32, pad: u32, size: u32) -> u32 {
    let first = (max(pad, begin) - begin + dilation - 1u) / dilation;
    let end = (max(pad + size, begin) - begin + dilation - 1u) / dilation;
    return max(min(end, taps), first) - first;
}

// Number of elements that are averaged for an output pixel; 1 for a window that lies entirely in the padding,
// whose sum is 0.
fn divisor(oh: u32, ow: u32) -> f32 {
    let rows = taps_inside(oh * p.stride_h, p.kernel_h, p.dilation_h, p.pad_top, p.height);
    let columns = taps_inside(ow * p.stride_w, p.kernel_w, p.dilation_w, p.pad_left, p.width);
    return f32(max(rows * columns, 1u));
}
