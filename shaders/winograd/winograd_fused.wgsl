// Winograd convolution F(2x2, 3x3) with its transforms (Lavin and Gray 2016): a workgroup computes 8 blocks of
// 4x4 outputs, which are 32 tiles of 2x2, for 32 output channels. In each step it loads K_STEP input channels
// of its images, transforms them into workgroup memory, and adds the products with the transformed kernels
// `u` [16 points, channels, out_channels]. 16 invocations belong to each of the 16 points (elements of a
// transformed tile); each of them computes 8 tiles for 8 channels. The loads of the next step are issued before
// the current step is multiplied. At the end, the sums pass through workgroup memory to the invocations that
// transform them into outputs.
// uses: winograd_epilogue, scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> u: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> extra: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

// Transformed images and kernels of a step, by channel and point, in two groups of four blocks or of four vectors
// of output channels; an invocation reads one of each group. The tiles of a block are in row-major order, in two
// vectors because two invocations store them: a write to an element of a vector may write all of it.
var<workgroup> v_step: array<array<array<array<array<vec2<f32>, 2>, 4>, 2>, 16>, K_STEP>;
var<workgroup> u_step: array<array<array<array<vec4<f32>, 4>, 2>, 16>, K_STEP>;

// What an invocation loads in a step: 24 pixels of one channel, or K_STEP vectors of u.
alias Loads = array<vec4<f32>, 6>;

// Row of a block that is not a valid example: all its pixels are outside of the image.
const OUTSIDE = 0x80000000u;

// 4x4 outputs of an image; `row` is OUTSIDE if the image is not a valid example.
struct Block {
    image: u32,
    row: u32,
    column: u32,
}

fn block_at(index: u32) -> Block {
    let blocks_per_image = p.tiles_h * p.tiles_w;
    let image = index / blocks_per_image;
    let in_image = index % blocks_per_image;
    let valid = image < valid_count(p.images, 1u, 0u);
    let row = select(OUTSIDE, in_image / p.tiles_w * 4u, valid);
    return Block(image, row, in_image % p.tiles_w * 4u);
}

// 4x6 pixels of one channel, which two adjacent tiles read, with the position of the first one; OUTSIDE or beyond
// the image in the padding.
struct Pixels {
    offset: u32,
    row: u32,
    column: u32,
}

// The pixels of the upper (0) or the lower (1) two tiles of a block.
fn pixels_of(block: Block, lower: u32, channel: u32) -> Pixels {
    // For positions above or left of the image, the unsigned subtractions wrap to values far out of range.
    let row = block.row + 2u * lower - p.pad_top;
    let column = block.column - p.pad_left;
    return Pixels(((block.image * p.height + row) * p.width + column) * p.channels + channel, row, column);
}

fn load_pixels(pixels: Pixels) -> Loads {
    var loads: Loads;
    var line = pixels.offset;
    for (var r = 0u; r < 4u; r++) { // unroll
        var element = line;
        for (var c = 0u; c < 6u; c++) { // unroll
            let inside = (pixels.row + r < p.height) & (pixels.column + c < p.width);
            // Elements outside of the image or of the buffer are replaced by 0.
            loads[(6u * r + c) / 4u][(6u * r + c) % 4u] = select(0.0, x[element], inside);
            element += p.channels;
        }
        line += p.width * p.channels;
    }
    return loads;
}

// Input transform of two tiles: of the columns of their pixels, then of the rows.
fn store_pixels(loads: Loads, lower: u32, channel: u32, block: u32) {
    var columns: array<vec4<f32>, 6>;
    for (var c = 0u; c < 6u; c++) { // unroll
        columns[c] = input_transform(
            loads[c / 4u][c % 4u],
            loads[(6u + c) / 4u][(6u + c) % 4u],
            loads[(12u + c) / 4u][(12u + c) % 4u],
            loads[(18u + c) / 4u][(18u + c) % 4u],
        );
    }
    for (var i = 0u; i < 4u; i++) { // unroll
        let left = input_transform(columns[0][i], columns[1][i], columns[2][i], columns[3][i]);
        let right = input_transform(columns[2][i], columns[3][i], columns[4][i], columns[5][i]);
        for (var j = 0u; j < 4u; j++) { // unroll
            v_step[channel][4u * i + j][block / 4u][block % 4u][lower] = vec2<f32>(left[j], right[j]);
        }
    }
}

fn input_transform(a: f32, b: f32, c: f32, d: f32) -> vec4<f32> {
    return vec4<f32>(a - c, b + c, c - b, b - d);
}

fn load_kernels(offset: u32) -> Loads {
    var loads: Loads;
    for (var i = 0u; i < K_STEP; i++) { // unroll
        loads[i] = u[offset + i * (p.out_channels / 4u)];
    }
    return loads;
}

fn store_kernels(loads: Loads, point: u32, vector: u32) {
    for (var i = 0u; i < K_STEP; i++) { // unroll
        u_step[i][point][vector / 4u][vector % 4u] = loads[i];
    }
}

// Output transform in one dimension: sums for the first or the second output.
fn outputs_of(m: array<vec4<f32>, 4>) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>(m[0] + m[1] + m[2], m[1] - m[2] - m[3]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let groups_n = (p.out_channels + 31u) / 32u;
    let index = workgroup_index(group);
    let n = index % groups_n * 32u;
    let first = index / groups_n * 8u;
    // Either the whole workgroup returns here or none of it, because all invocations must reach the barriers.
    if (first >= valid_count(p.images, 1u, 0u) * p.tiles_h * p.tiles_w) {
        return;
    }
    // The first invocations load pixels, and the second half loads kernels.
    let loads_pixels = local < 16u * K_STEP;
    let loads_kernels = local >= WORKGROUP / 2u;
    // Adjacent invocations load different blocks, so that they store to different memory banks.
    let load_block = local % 8u;
    let load_channel = local / 8u % K_STEP;
    let lower = local / (8u * K_STEP) % 2u;
    let load_point = local / 8u % 16u;
    let load_vector = local % 8u;
    var pixels = pixels_of(block_at(first + load_block), lower, load_channel);
    // Channels beyond the last are those of the last vector; their results are not stored.
    let load_n = min(n + 4u * load_vector, p.out_channels - 4u);
    var kernels = (load_point * p.channels * p.out_channels + load_n) / 4u;
    if (loads_pixels) {
        store_pixels(load_pixels(pixels), lower, load_channel, load_block);
    } else if (loads_kernels) {
        store_kernels(load_kernels(kernels), load_point, load_vector);
    }
    workgroupBarrier();
    let point = local / 16u;
    let row = local / 4u % 4u;
    let column = local % 4u;
    // Tiles in two groups of four (a block each), channels in two groups of four.
    var sum: array<array<array<vec4<f32>, 2>, 4>, 2>;
    for (var k = 0u; k < p.channels; k += K_STEP) {
        let is_last = k + K_STEP >= p.channels;
        var next: Loads;
        if (!is_last) {
            pixels.offset += K_STEP;
            kernels += K_STEP * (p.out_channels / 4u);
            if (loads_pixels) {
                next = load_pixels(pixels);
            } else if (loads_kernels) {
                next = load_kernels(kernels);
            }
        }
        for (var kk = 0u; kk < K_STEP; kk++) { // unroll
            var channels: array<vec4<f32>, 2>;
            for (var j = 0u; j < 2u; j++) { // unroll
                channels[j] = u_step[kk][point][j][column];
            }
            for (var o = 0u; o < 2u; o++) { // unroll
                let tiles = vec4<f32>(v_step[kk][point][o][row][0], v_step[kk][point][o][row][1]);
                for (var j = 0u; j < 2u; j++) { // unroll
                    for (var i = 0u; i < 4u; i++) { // unroll
                        sum[o][i][j] = fma(vec4<f32>(tiles[i]), channels[j], sum[o][i][j]);
                    }
                }
            }
        }
        workgroupBarrier();
        if (!is_last) {
            if (loads_pixels) {
                store_pixels(next, lower, load_channel, load_block);
            } else if (loads_kernels) {
                store_kernels(next, load_point, load_vector);
            }
        }
        workgroupBarrier();
    }
    // Output transform of a quarter of the results at a time: the upper or the lower tiles of four blocks.
    let stored_row = local / 8u % 4u;
    let stored_side = local / 4u % 2u;
    let channel = n + local / 32u * 16u + 4u * column;
    for (var o = 0u; o < 2u; o++) { // unroll
        // Not unrolled: software drivers compile accesses to memory slowly.
        for (var half = 0u; half < 2u; half++) {
            for (var i = 0u; i < 2u; i++) { // unroll
                // The XOR spreads the stores of adjacent rows over the memory banks.
                let side = i ^ (row % 2u);
                v_step[row][point][side][column][0] = sum[o][i][0].xy;
                v_step[row][point][side][column][1] = sum[o][i][0].zw;
                u_step[row][point][side][column] = sum[o][i][1];
                // The lower tiles move to the place of the upper ones, so that all indices into the sums are constant.
                sum[o][i] = sum[o][i + 2u];
            }
            workgroupBarrier();
            if (local < 64u) {
                let side = stored_side ^ (stored_row % 2u);
                var rows: array<array<vec4<f32>, 2>, 4>;
                for (var r = 0u; r < 4u; r++) { // unroll
                    var m: array<vec4<f32>, 4>;
                    for (var c = 0u; c < 4u; c++) { // unroll
                        if (local < 32u) {
                            let first_two = v_step[stored_row][4u * r + c][side][column][0];
                            m[c] = vec4<f32>(first_two, v_step[stored_row][4u * r + c][side][column][1]);
                        } else {
                            m[c] = u_step[stored_row][4u * r + c][side][column];
                        }
                    }
                    rows[r] = outputs_of(m);
                }
                let left = outputs_of(array<vec4<f32>, 4>(rows[0][0], rows[1][0], rows[2][0], rows[3][0]));
                let right = outputs_of(array<vec4<f32>, 4>(rows[0][1], rows[1][1], rows[2][1], rows[3][1]));
                let block = block_at(first + 4u * o + stored_row);
                let tile = Block(block.image, block.row + 2u * half, block.column + 2u * stored_side);
                if (channel < p.out_channels) {
                    store_tile(tile, channel, array<vec4<f32>, 4>(left[0], right[0], left[1], right[1]));
                }
            }
            workgroupBarrier();
        }
    }
}
