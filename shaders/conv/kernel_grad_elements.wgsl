// Partial weight gradients (dW) of single kernel elements: for elements[i], partials[s][i] is the sum of x *
// dy over the output pixels of the images of split s, in ascending order. The GEMM computes the same sum for
// all elements of the kernel. A split is a range of images, or a range of the rows and columns of an image. One invocation per element and split.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
// Each element is its row and column relative to the corner of the patch, its input channel, and its output
// channel.
@group(0) @binding(2) var<storage, read> elements: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let count = arrayLength(&elements);
    let index = invocation_index(group, local);
    if (index >= p.splits * p.row_splits * p.column_splits * count) {
        return;
    }
    let element = elements[index % count];
    // Splits are fractions of the full batch, so an image's split does not depend on the number of valid
    // images.
    let images_per_split = (p.images + p.splits - 1u) / p.splits;
    let split = index / count;
    let first = split / (p.row_splits * p.column_splits) * images_per_split;
    let last = min(first + images_per_split, valid_count(p.images, 1u, 0u));
    let first_row = split / p.column_splits % p.row_splits * p.rows_per_split;
    let end_row = min(first_row + p.rows_per_split, p.out_height);
    let first_column = split % p.column_splits * p.columns_per_split;
    let end_column = min(first_column + p.columns_per_split, p.out_width);
    var sum = 0.0;
    for (var image = first; image < last; image++) {
        for (var row = first_row; row < end_row; row++) {
            let h = row * p.stride_h + element.x - p.pad_top;
            // For positions above the image, h wraps to a value far out of range.
            if (h < p.height) {
                var dy_offset = ((image * p.out_height + row) * p.out_width + first_column) * p.c_out + element.w;
                let row_start = (image * p.height + h) * p.width;
                for (var column = first_column; column < end_column; column++) {
                    let w = column * p.stride_w + element.y - p.pad_left;
                    let inside = w < p.width;
                    let offset = select(0u, (row_start + w) * p.c_in + element.z, inside);
                    sum = fma(select(0.0, x[offset], inside), dy[dy_offset], sum);
                    dy_offset += p.c_out;
                }
            }
        }
    }
    partials[index] = sum;
}
