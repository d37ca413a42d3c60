// Linear resampling: y = the sum over the rows of a rectangle of x of row weight * (the sum over its columns of
// column weight * x), in ascending order. One invocation per output pixel and Element (one channel, or four).
//
// The table has, for each output row, the first row of x and the index of the row weights; the weights of an output
// end where those of the next begin. The same for columns, from p.columns on.
// uses: scalars, grid, bits

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> table: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let per_image = p.out_height * p.out_width * channels;
    let index = invocation_index(group, local);
    if (index >= valid_count(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let output_pixel = index / channels;
    let output_row_index = output_pixel / p.out_width;
    let image = output_row_index / p.out_height;
    let row_entry = output_row_index % p.out_height * 2u;
    let column_entry = p.columns + output_pixel % p.out_width * 2u;
    let row_weights = table[row_entry + 1u];
    let column_weights = table[column_entry + 1u];
    let end_row = min(p.end_row, table[row_entry + 3u] - row_weights);
    let end_column = min(p.end_column, table[column_entry + 3u] - column_weights);
    let corner = (image * p.height + table[row_entry]) * p.width + table[column_entry];
    var sum = Element(0.0);
    for (var row = p.first_row; row < end_row; row++) {
        var row_sum = Element(0.0);
        for (var column = p.first_column; column < end_column; column++) {
            let pixel = corner + row * p.width + column;
            row_sum += float_of(table[column_weights + column]) * x[pixel * channels + channel];
        }
        sum += float_of(table[row_weights + row]) * row_sum;
    }
    if (p.first_row + p.first_column > 0u) {
        sum += y[index];
    }
    y[index] = sum;
}
