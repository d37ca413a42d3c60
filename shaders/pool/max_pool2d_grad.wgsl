// Gradient of max pooling: dx = the sum of dy over the windows whose first maximum is this element, in
// ascending order of kernel positions. RELU fuses the gradient of a ReLU before the pool: only windows whose
// maximum is above 0 count (all other elements of a window receive 0 with or without the ReLU). One
// invocation per RUN input pixels of a row and per Element (one channel, or four); if WINDOWS_TILE_INPUT
// (every input pixel lies in exactly one window), per RUN output pixels, each of which writes its whole
// window. A window with very many kernel positions is divided into several dispatches, for FIRST_TAP ..
// END_TAP each.
// uses: window, scalars, grid

@group(0) @binding(2) var<storage, read> position: array<Words>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
// Output of the pool; any buffer may be bound if RELU is false.
@group(0) @binding(4) var<storage, read> pooled: array<Element>;
@group(0) @binding(5) var<storage, read_write> dx: array<Element>;

// Gradient that the window of output `offset` passes to its maximum.
fn gradient_at(offset: u32) -> Element {
    if (RELU) {
        return select(Element(0.0), dy[offset], pooled[offset] > Element(0.0));
    }
    return dy[offset];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let channels = p.channels / WIDTH;
    let height = select(p.height, p.out_height, WINDOWS_TILE_INPUT);
    let width = select(p.width, p.out_width, WINDOWS_TILE_INPUT);
    let runs = (width + RUN - 1u) / RUN;
    let per_image = height * runs * channels;
    let index = invocation_index(group, local);
    if (index >= valid_count(p.images * per_image, per_image, 0u)) {
        return;
    }
    let channel = index % channels;
    let run = index / channels;
    let row_index = run / runs;
    let row = row_index % height;
    let image = row_index / height;
    let first = run % runs * RUN;
    for (var column = first; column < min(first + RUN, width); column++) {
        let element = (row_index * width + column) * channels + channel;
        if (WINDOWS_TILE_INPUT) {
            let gradient = gradient_at(element);
            let max_tap = position[element];
            let corner = row_index * KERNEL_H * p.width + column * KERNEL_W;
            for (var tap = FIRST_TAP; tap < END_TAP; tap++) {
                let pixel = corner + tap / KERNEL_W * p.width + tap % KERNEL_W;
                dx[pixel * channels + channel] = select(Element(0.0), gradient, max_tap == Words(tap));
            }
        } else {
            var sum = Element(0.0);
            if (FIRST_TAP > 0u) {
                sum = dx[element];
            }
            for (var kh = FIRST_TAP / KERNEL_W; kh < (END_TAP - 1u) / KERNEL_W + 1u; kh++) {
                let oh = output_row(row, kh);
                // Constant bounds, unless the window is divided, let drivers unroll short loops.
                let first_kw = select(0u, max(FIRST_TAP, kh * KERNEL_W) - kh * KERNEL_W, PART);
                let end_kw = select(KERNEL_W, min(END_TAP - kh * KERNEL_W, KERNEL_W), PART);
                for (var kw = first_kw; kw < end_kw; kw++) {
                    let ow = output_column(column, kw);
                    if ((oh != NO_OUTPUT) & (ow != NO_OUTPUT)) {
                        let offset = ((image * p.out_height + oh) * p.out_width + ow) * channels + channel;
                        sum += select(
                            Element(0.0),
                            gradient_at(offset),
                            position[offset] == Words(kh * KERNEL_W + kw),
                        );
                    }
                }
            }
            dx[element] = sum;
        }
    }
}
