// The geometry of a sliding window over images of p.height x p.width; twin of shape::WindowGeometry.
@group(0) @binding(0) var<uniform> p: Params;


// The input row under tap `tap` of output row `output`, counted from the padding's edge: subtract p.pad_top after the
// test that it is not in the padding.
fn padded_row(output: u32, tap: u32) -> u32 {
    return output * p.stride_h + tap * p.dilation_h;
}

fn padded_column(output: u32, tap: u32) -> u32 {
    return output * p.stride_w + tap * p.dilation_w;
}

// Below 0 wraps to far beyond the last.
fn row_inside(padded: u32) -> bool {
    return padded - p.pad_top < p.height;
}

fn column_inside(padded: u32) -> bool {
    return padded - p.pad_left < p.width;
}

// The output whose tap `tap` lies on input row `row`, or NO_OUTPUT.
const NO_OUTPUT = 0xffffffffu;

fn output_row(row: u32, tap: u32) -> u32 {
    let reach = tap * p.dilation_h;
    let distance = row + p.pad_top - reach;
    let output = distance / p.stride_h;
    let fits = (row + p.pad_top >= reach) & (distance % p.stride_h == 0u) & (output < p.out_height);
    return select(NO_OUTPUT, output, fits);
}

fn output_column(column: u32, tap: u32) -> u32 {
    let reach = tap * p.dilation_w;
    let distance = column + p.pad_left - reach;
    let output = distance / p.stride_w;
    let fits = (column + p.pad_left >= reach) & (distance % p.stride_w == 0u) & (output < p.out_width);
    return select(NO_OUTPUT, output, fits);
}
