// The largest element of a 2 x 2 window, channel by channel, and its position in the window (`tap`, 0 to 3 in
// row-major order): the first one if several are equal. NaN counts as the largest, as in max_pool2d.wgsl.
// uses: bits

struct Largest {
    value: vec4<f32>,
    tap: vec4<u32>,
}

fn largest_of(window: array<vec4<f32>, 4>) -> Largest {
    var best = Largest(window[0], vec4<u32>(0u));
    for (var i = 0u; i < 3u; i++) { // unroll
        let value = window[i + 1u];
        let better = (value > best.value) | (is_nan4(value) & !is_nan4(best.value));
        best.value = select(best.value, value, better);
        best.tap = select(best.tap, vec4<u32>(i + 1u), better);
    }
    return best;
}
