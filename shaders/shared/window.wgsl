// The geometry of a sliding window over images of p.height x p.width; twin of shape::WindowGeometry.

// The input row under tap `tap` of output row `output`, counted from the padding's edge: subtract p.pad_top after the
// test that it is not in the padding.
fn padded_row(output: u32, tap: u32) -> u32 {
    return output * p.stride_h + tap * p.dilation_h;
}

fn padded_column(output: u32, tap: u32) -> u32 {
    return output * p.stride_w + tap * p.dilation_w;
}

fn row_inside(padded: u32) -> bool {
    return padded >= p.pad_top && padded - p.pad_top < p.height;
}

fn column_inside(padded: u32) -> bool {
    return padded >= p.pad_left && padded - p.pad_left < p.width;
}

// The output whose tap `tap` lies on input row `row`, or NO_OUTPUT.
const NO_OUTPUT = 0xffffffffu;

fn output_row(row: u32, tap: u32) -> u32 {
    let padded = row + p.pad_top;
    let reach = tap * p.dilation_h;
    if (padded < reach || (padded - reach) % p.stride_h != 0u || (padded - reach) / p.stride_h >= p.out_height) {
        return NO_OUTPUT;
    }
    return (padded - reach) / p.stride_h;
}

fn output_column(column: u32, tap: u32) -> u32 {
    let padded = column + p.pad_left;
    let reach = tap * p.dilation_w;
    if (padded < reach || (padded - reach) % p.stride_w != 0u || (padded - reach) / p.stride_w >= p.out_width) {
        return NO_OUTPUT;
    }
    return (padded - reach) / p.stride_w;
}
