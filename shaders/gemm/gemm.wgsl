// Shared part of the GEMM families: C = op(A) * op(B). A is row-major [m, k], or [k, m] if transposed; B is
// [k, n], or [n, k] if B_TRANSPOSED.
//
// The rows of A may be image patches gathered during the multiplication (implicit GEMM). Then k is divided
// into segments of segment_length, one per position of a kernel_h x kernel_w kernel (1 x 1 for a matrix). The
// rows of B for consecutive kernel positions are b_segment_stride apart; at the start of each kernel row,
// b_kernel_row_stride is added.
//
// Each group has its own A, B and C, *_group_stride apart. If SPLIT (split-K), k is divided into splits of
// k_per_split, each with its own C, and z = group * splits + split. Every family sums in ascending order of
// k, so that the results of all families are equal bit for bit if the driver does not contract a*b+c.
// uses: Sums

@group(0) @binding(0) var<uniform> uniform_params: Params;
// Private copy of the uniform parameters, assigned in `main`, because software drivers load uniforms lane by
// lane inside loops. WGSL's uniformity analysis treats private variables as non-uniform, so control flow
// around barriers and subgroup operations must depend on `uniform_params`, read outside of loops.
var<private> p: Params;

// Loops marked `unroll` are unrolled before the shader is compiled: registers cannot be indexed dynamically,
// so a driver that keeps such a loop stores its arrays in memory.
alias Row = array<vec4<f32>, COLUMNS4>;
// Tile of results that one invocation computes: OUTER*INNER rows of 4*COLUMNS4 columns.
alias Tile = array<array<Row, INNER>, OUTER>;

// Buffer offsets of one group's A, B and C.
struct Bases {
    a: u32,
    b: u32,
    c: u32,
}

fn group_bases(z: u32) -> Bases {
    var group = z;
    var c_base = p.c_offset;
    if (SPLIT) {
        group = z / p.splits;
        c_base += z % p.splits * p.c_split_stride;
    }
    return Bases(
        p.a_offset + group * p.a_group_stride,
        p.b_offset + group * p.b_group_stride,
        c_base + group * p.c_group_stride,
    );
}

// Output pixel of a result row. If POOLED, every four consecutive rows are the pixels of one 2 x 2 pooling
// window, in row-major order.
fn pixel_of(row: u32) -> u32 {
    var pixel = row;
    if (POOLED) {
        let windows_per_row = p.out_width / 2u;
        let window = row / 4u;
        let line = window / windows_per_row * 2u + row / 2u % 2u;
        pixel = line * p.out_width + window % windows_per_row * 2u + row % 2u;
    }
    return pixel;
}

// Buffer offset of a row of C. If PIXEL_SET, the rows are a strided set of pixels: pixels of a line are
// c_stride apart, lines c_line_stride, and images c_image_stride.
fn c_row_offset(row: u32) -> u32 {
    var offset = row * p.c_stride;
    if (PIXEL_SET) {
        let line = row / p.out_width;
        let image = line / p.out_height;
        let line_offset = image * p.c_image_stride + (line - image * p.out_height) * p.c_line_stride;
        offset = line_offset + (row - line * p.out_width) * p.c_stride;
    }
    return offset;
}

// First k of this split.
fn split_begin(z: u32) -> u32 {
    var first = 0u;
    if (SPLIT) {
        first = z % uniform_params.splits * uniform_params.k_per_split;
    }
    return first;
}

// End of this split along k, at most `depth`. If the batch has few valid examples, a split may be empty; its
// end is then before its beginning.
fn split_end(z: u32, depth: u32) -> u32 {
    var end = depth;
    if (SPLIT) {
        end = min(split_begin(z) + uniform_params.k_per_split, depth);
    }
    return end;
}

// Length of k that belongs to valid examples. A very long k is divided into several GEMMs; k_begin is the
// first k of this one.
fn valid_depth() -> u32 {
    let end = valid_count(
        uniform_params.k_begin + uniform_params.k,
        uniform_params.k_per_example,
        uniform_params.first_example,
    );
    return max(end, uniform_params.k_begin) - uniform_params.k_begin;
}
