// Taps of one axis that lie on the image: those with pad <= begin + tap * dilation < pad + size, `begin` from the padding's edge.
fn taps_inside(begin: u32, taps: u32, dilation: u32, pad: u32, size: u32) -> u32 {
    let before = (max(pad, begin) - begin + dilation - 1u) / dilation;
    let until = (max(pad + size, begin) - begin + dilation - 1u) / dilation;
    return max(min(until, taps), before) - before;
}

// What an output pixel's sum is divided by; 1 for a window in the padding alone, whose sum is 0.
fn divisor(oh: u32, ow: u32) -> f32 {
    let rows = taps_inside(oh * p.stride_h, p.kernel_h, p.dilation_h, p.pad_top, p.height);
    let columns = taps_inside(ow * p.stride_w, p.kernel_w, p.dilation_w, p.pad_left, p.width);
    return f32(max(rows * columns, 1u));
}
