// Index of a result of a split-K GEMM whose rows are a strided set of pixels.
fn result_index(index: u32) -> u32 {
    let row = index / p.row_elements;
    let line = row / p.width;
    let image = line / p.lines;
    let pixel = image * p.c_image + (line - image * p.lines) * p.c_line + (row - line * p.width) * p.c_stride;
    return p.c_offset + pixel + (index - row * p.row_elements);
}
