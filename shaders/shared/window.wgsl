// Geometry of a sliding window (convolution or pooling) over images of p.height x p.width, as in
// shape::WindowGeometry. `tap` is a coordinate in the kernel along one axis: kh for rows, kw for columns.
@group(0) @binding(0) var<uniform> p: Params;

// Input row that kernel row `tap` reads for output row `output`, counted from the top edge of the padding. To
// get the row in the image, check row_inside and then subtract p.pad_top.
fn padded_row(output: u32, tap: u32) -> u32 {
    return output * p.stride_h + tap * p.dilation_h;
}

fn padded_column(output: u32, tap: u32) -> u32 {
    return output * p.stride_w + tap * p.dilation_w;
}

// Returns whether a row lies on the image. For rows above the image, the unsigned subtraction wraps to a
// value far out of range.
fn row_inside(padded: u32) -> bool {
    return padded - p.pad_top < p.height;
}

fn column_inside(padded: u32) -> bool {
    return padded - p.pad_left < p.width;
}

const NO_OUTPUT = 0xffffffffu;

// Output row for which kernel row `tap` reads input row `row`; NO_OUTPUT if there is none.
fn output_row(row: u32, tap: u32) -> u32 {
    let tap_offset = tap * p.dilation_h;
    let distance = row + p.pad_top - tap_offset;
    let output = distance / p.stride_h;
    let valid = (row + p.pad_top >= tap_offset) & (distance % p.stride_h == 0u) & (output < p.out_height);
    return select(NO_OUTPUT, output, valid);
}

fn output_column(column: u32, tap: u32) -> u32 {
    let tap_offset = tap * p.dilation_w;
    let distance = column + p.pad_left - tap_offset;
    let output = distance / p.stride_w;
    let valid = (column + p.pad_left >= tap_offset) & (distance % p.stride_w == 0u) & (output < p.out_width);
    return select(NO_OUTPUT, output, valid);
}
