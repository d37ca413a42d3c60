// dx = the sum of dy over the windows whose first maximum is here, in ascending order of taps; if RELU, only of those whose
// maximum is above 0, which makes it the gradient of max(x, 0) before the pool: no other element gets anything. One
// invocation RUN input pixels of a row, one channel or four; output pixels, of which each writes its whole window, where
// the windows tile the input.
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> position: array<Words>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
// What the pool gave; anything, without RELU.
@group(0) @binding(4) var<storage, read> pooled: array<Element>;
@group(0) @binding(5) var<storage, read_write> dx: array<Element>;

// What output `at` gives back.
fn given(at: u32) -> Element {
    if (RELU) {
        return select(Element(0.0), dy[at], pooled[at] > Element(0.0));
    }
    return dy[at];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let height = select(p.height, p.out_height, TILES);
    let width = select(p.width, p.out_width, TILES);
    let runs = (width + RUN - 1u) / RUN;
    let per_image = height * runs * channels;
    let index = invocation_number(group, local);
    if (index >= live(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let run = index / channels;
    let line = run / runs;
    let row = line % height;
    let image = line / height;
    let first = run % runs * RUN;
    for (var column = first; column < min(first + RUN, width); column++) {
        let here = (line * width + column) * channels + channel;
        if (TILES) {
            let share = given(here);
            let chosen = position[here];
            let corner = line * KERNEL_H * p.width + column * KERNEL_W;
            for (var tap = 0u; tap < TAPS; tap++) {
                let pixel = corner + tap / KERNEL_W * p.width + tap % KERNEL_W;
                dx[pixel * channels + channel] = select(Element(0.0), share, chosen == Words(tap));
            }
        } else {
            var sum = Element(0.0);
            for (var kh = 0u; kh < KERNEL_H; kh++) {
                let oh = output_row(row, kh);
                for (var kw = 0u; kw < KERNEL_W; kw++) {
                    let ow = output_column(column, kw);
                    if ((oh != NO_OUTPUT) & (ow != NO_OUTPUT)) {
                        let at = ((image * p.out_height + oh) * p.out_width + ow) * channels + channel;
                        sum += select(Element(0.0), given(at), position[at] == Words(kh * KERNEL_W + kw));
                    }
                }
            }
            dx[here] = sum;
        }
    }
}
