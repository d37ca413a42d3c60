// Range of kernel positions that a dispatch covers: all of them.
fn is_first_part() -> bool {
    return true;
}

fn is_last_part() -> bool {
    return true;
}

fn first_kernel_row() -> u32 {
    return 0u;
}

fn end_kernel_row() -> u32 {
    return p.kernel_h;
}

fn first_kernel_column(kh: u32) -> u32 {
    return 0u;
}

fn end_kernel_column(kh: u32) -> u32 {
    return p.kernel_w;
}
