// sums[s][i] = the sum of x * dy over the output pixels of split s of the images, ascending, for element i of a list of a
// kernel's elements: what a product computes for all of them. One invocation an element of a split.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
// Row and column from the patch's corner, input channel, output channel.
@group(0) @binding(2) var<storage, read> elements: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let count = arrayLength(&elements);
    let index = invocation_number(group, local);
    if (index >= p.splits * count) {
        return;
    }
    let element = elements[index % count];
    // Splits are cut by the full batch, so that an image's split does not depend on how many are in use.
    let length = (p.images + p.splits - 1u) / p.splits;
    let first = index / count * length;
    let last = min(first + length, live(p.images, 1u, 0u));
    var sum = 0.0;
    for (var image = first; image < last; image++) {
        for (var row = 0u; row < p.out_height; row++) {
            let h = row * p.stride_h + element.x - p.pad_top;
            // Above the image h is beyond the last row, for it has wrapped.
            if (h < p.height) {
                var at_dy = (image * p.out_height + row) * p.out_width * p.c_out + element.w;
                let line = (image * p.height + h) * p.width;
                for (var column = 0u; column < p.out_width; column++) {
                    let w = column * p.stride_w + element.y - p.pad_left;
                    let inside = w < p.width;
                    let at = select(0u, (line + w) * p.c_in + element.z, inside);
                    sum = fma(select(0.0, x[at], inside), dy[at_dy], sum);
                    at_dy += p.c_out;
                }
            }
        }
    }
    sums[index] = sum;
}
