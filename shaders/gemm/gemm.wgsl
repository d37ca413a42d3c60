// What the families of C = op(A) * op(B) share. A [m, k] is stored by rows, or [k, m] if A_TRANSPOSED; B [k, n], or
// [n, k] if B_TRANSPOSED. The rows of A may also be patches of images, in segments of k, one for each tap of a
// kernel_h x kernel_w window (1 x 1 for a matrix); B's part of each is b_segment further on, and
// b_row further still where a row of the window begins.
// Each group has its own part of all three. If SPLIT, the sum is cut into splits, each with a C of its own, and z counts the
// splits of all groups, one group after the other. Sums run over ascending k in every family, so that
// all agree bit for bit where the driver does not contract a*b+c.
// uses: Sums

@group(0) @binding(0) var<uniform> given: Params;
// A copy that `main` makes: software drivers read a uniform lane by lane inside loops. WGSL does not count a private variable
// as uniform, so whatever decides the control flow around barriers and subgroup operations is read from `given`, before loops.
var<private> p: Params;

// Loops marked `unroll` are written out before the shader is compiled: registers have no addresses, and a driver that
// keeps such a loop keeps its arrays in memory.
alias Row = array<vec4<f32>, COLUMNS4>;
alias BBlock = array<Row, 4>;
// A tile of OUTER*INNER rows.
alias Tile = array<array<Row, INNER>, OUTER>;

// Where a group begins in each operand.
struct Bases {
    a: u32,
    b: u32,
    c: u32,
}

fn bases(z: u32) -> Bases {
    var group = z;
    var c_base = p.c_offset;
    if (SPLIT) {
        group = z / p.splits;
        c_base += z % p.splits * p.c_split;
    }
    return Bases(p.a_offset + group * p.a_group, p.b_offset + group * p.b_group, c_base + group * p.c_group);
}

// The output pixel of a row of C. If POOLED, rows come in fours, the pixels of a window of 2 x 2 in order of its taps.
fn pixel_of(row: u32) -> u32 {
    var pixel = row;
    if (POOLED) {
        let across = p.out_width / 2u;
        let window = row / 4u;
        let line = window / across * 2u + row / 2u % 2u;
        pixel = line * p.out_width + window % across * 2u + row % 2u;
    }
    return pixel;
}

// Where a row of C begins. If PIXEL_SET, rows are pixels that lie apart.
fn c_row(row: u32) -> u32 {
    var at = row * p.c_stride;
    if (PIXEL_SET) {
        let line = row / p.out_width;
        let image = line / p.out_height;
        let at_line = image * p.c_image + (line - image * p.out_height) * p.c_line;
        at = at_line + (row - line * p.out_width) * p.c_stride;
    }
    return at;
}

// The first of `depth` terms that belongs to this split.
fn split_first(z: u32) -> u32 {
    var first = 0u;
    if (SPLIT) {
        first = z % given.splits * given.split_terms;
    }
    return first;
}

// One beyond the last; a short batch may end before the split.
fn split_end(z: u32, depth: u32) -> u32 {
    var end = depth;
    if (SPLIT) {
        end = min(split_first(z) + given.split_terms, depth);
    }
    return end;
}

// Terms of this part of the sum, which begins at k_first, that belong to examples in use.
fn live_depth() -> u32 {
    let last = live(given.k_first + given.k, given.k_per_row, given.first_row);
    return max(last, given.k_first) - given.k_first;
}

// Row k of B at columns n .. n + 4*COLUMNS4, 0 from row `depth` on if MASKED; columns beyond the last are anything (their
// results are not stored).
fn b_row(base: u32, k: u32, n: u32, depth: u32) -> Row {
    var row: Row;
    let inside = (k < depth) | !MASKED;
    let at = select(depth - 1u, k, inside);
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        if (B_TRANSPOSED) {
            for (var i = 0u; i < 4u; i++) { // unroll
                row[j][i] = fetch_b(base + min(n + 4u * j + i, p.n - 1u) * p.b_stride + at);
            }
        } else {
            row[j] = fetch_b4(base + at * p.b_stride + n + 4u * j);
        }
        if (MASKED) {
            row[j] = select(vec4<f32>(0.0), row[j], inside);
        }
    }
    return row;
}

// Rows k .. k+3 of B at columns n .. n+3, as b_row. Which way B is stored is told at run time: it costs a select an element,
// and saves a shader.
fn b_quad(base: u32, k: u32, n: u32, depth: u32) -> mat4x4<f32> {
    let across = p.b_transposed != 0u;
    var stored: mat4x4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let row = select(min(k + i, depth - 1u), min(n + i, p.n - 1u), across);
        stored[i] = fetch_b4(base + row * p.b_stride + select(n, k, across));
    }
    let turned = transpose(stored);
    var quad: mat4x4<f32>;
    for (var kk = 0u; kk < 4u; kk++) { // unroll
        quad[kk] = select(stored[kk], turned[kk], across);
        if (MASKED) {
            quad[kk] = select(vec4<f32>(0.0), quad[kk], k + kk < depth);
        }
    }
    return quad;
}

// Rows k .. k+3 of B at columns n ..
fn b_block(base: u32, k: u32, n: u32, depth: u32) -> BBlock {
    var block: BBlock;
    for (var j = 0u; j < COLUMNS4; j++) { // unroll
        let quad = b_quad(base, k, n + 4u * j, depth);
        for (var kk = 0u; kk < 4u; kk++) { // unroll
            block[kk][j] = quad[kk];
        }
    }
    return block;
}
