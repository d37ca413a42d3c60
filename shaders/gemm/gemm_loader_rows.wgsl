// A by rows: four of them are loaded along k and turned; neighbours have the terms that follow. k runs over all segments.
struct ALoader {
    place: array<Place, 4>,
    term: u32,
    number: u32,
}

fn all_terms() -> u32 {
    return given.k * given.kernel_h * given.kernel_w;
}

fn a_loader_at(base: u32, m: u32, rows: u32, first: u32, block: u32) -> ALoader {
    var loader: ALoader;
    loader.term = block % (K_STEP / 4u) * 4u;
    loader.number = block / (K_STEP / 4u);
    for (var i = 0u; i < 4u; i++) { // unroll
        loader.place[i] = a_place(base, min(m + 4u * loader.number + i, rows - 1u));
    }
    return loader;
}

fn load_a(loader: ptr<function, ALoader>, base: u32, k: u32, end: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    let term = k + (*loader).term;
    if (term < end) {
        let tap = term / p.segment;
        for (var i = 0u; i < 4u; i++) { // unroll
            let start = a_segment((*loader).place[i], tap / p.kernel_w, tap % p.kernel_w);
            stored[i] = fetch_row4(start, term % p.segment);
        }
    }
    return transpose(stored);
}

fn load_b(loader: BLoader, base: u32, k: u32, end: u32) -> mat4x4<f32> {
    var stored: mat4x4<f32>;
    let term = k + loader.term;
    if (term < end) {
        let tap = term / p.segment;
        let part = base + tap * p.b_segment + tap / p.kernel_w * p.b_row;
        stored = b_quad(part, term % p.segment, loader.column, p.k);
    }
    return stored;
}
