// Loader for row-major A: a block is loaded as four rows, each a vec4 along k, and then transposed. Adjacent
// invocations load adjacent k. k runs over all segments (kernel positions).
struct ALoader {
    origin: array<RowOrigin, 4>,
    k_offset: u32,
    vector: u32,
}

fn total_depth() -> u32 {
    return uniform_params.k * uniform_params.kernel_h * uniform_params.kernel_w;
}

fn a_loader_at(base: u32, m: u32, rows: u32, first: u32, block: u32) -> ALoader {
    var loader: ALoader;
    loader.k_offset = block % (K_STEP / 4u) * 4u;
    loader.vector = block / (K_STEP / 4u);
    for (var i = 0u; i < 4u; i++) { // unroll
        loader.origin[i] = a_row_origin(base, min(m + 4u * loader.vector + i, rows - 1u));
    }
    return loader;
}

fn load_a(loader: ptr<function, ALoader>, base: u32, k: u32, end: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    let k_index = k + (*loader).k_offset;
    if (k_index < end) {
        let tap = k_index / p.segment_length;
        for (var i = 0u; i < 4u; i++) { // unroll
            let start = a_segment((*loader).origin[i], tap / p.kernel_w, tap % p.kernel_w);
            stored[i] = fetch_row4(start, k_index % p.segment_length);
        }
    }
    return transpose(stored);
}

fn load_b(loader: BLoader, base: u32, k: u32, end: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    let k_index = k + loader.k_offset;
    if (k_index < end) {
        let tap = k_index / p.segment_length;
        let b_offset = base + tap * p.b_segment_stride + tap / p.kernel_w * p.b_kernel_row_stride;
        stored = b_quad(b_offset, k_index % p.segment_length, loader.column, p.k);
    }
    return stored;
}
