// Range of kernel positions that a dispatch covers: p.first_tap .. p.end_tap, in row-major order. A window with
// very many positions is divided into several dispatches, each of which adds to the results of those before.
fn is_first_part() -> bool {
    return p.first_tap == 0u;
}

fn is_last_part() -> bool {
    return p.end_tap == p.kernel_h * p.kernel_w;
}

fn first_kernel_row() -> u32 {
    return p.first_tap / p.kernel_w;
}

fn end_kernel_row() -> u32 {
    return (p.end_tap - 1u) / p.kernel_w + 1u;
}

fn first_kernel_column(kh: u32) -> u32 {
    return max(p.first_tap, kh * p.kernel_w) - kh * p.kernel_w;
}

fn end_kernel_column(kh: u32) -> u32 {
    return min(p.end_tap - kh * p.kernel_w, p.kernel_w);
}
