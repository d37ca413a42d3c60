//! Seeded test data.

use frazil::low_level::Conv2d;
use frazil::low_level::{Padding, Window};
use frazil::low_level::{Purpose, Stream};

/// A random stream for test data.
pub fn stream(seed: u64) -> Stream {
    Stream::new(seed, Purpose::Data, 0)
}

/// Draws standard normal numbers. Each is exactly representable in f32, so a device computes with the same
/// numbers.
pub fn normal(stream: &mut Stream, elements: usize) -> Vec<f64> {
    (0..elements).map(|_| f64::from(stream.normal())).collect()
}

/// Returns distinct numbers in random order, spaced by `gap`; none is nearer to 0 than `gap / 2`.
pub fn spread(stream: &mut Stream, elements: usize, gap: f64) -> Vec<f64> {
    let mut data: Vec<f64> =
        (0..elements).map(|i| (i as f64 - elements as f64 / 2.0).floor() * gap + gap / 2.0).collect();
    stream.shuffle(&mut data);
    data
}

/// Draws a small convolution and a batch size. The draws include strides, dilation, groups (also depthwise),
/// all three kinds of padding, kernels larger than the input and strides larger than the kernel.
pub fn convolution(stream: &mut Stream) -> (Conv2d, usize) {
    loop {
        let mut up_to = |n: usize| 1 + stream.below(n);
        let groups = up_to(3);
        let (c_in, c_out) = (groups * up_to(3), groups * up_to(3));
        let input = [up_to(8), up_to(8), c_in];
        let mut window = Window::new([up_to(4), up_to(4)]);
        window.stride = [up_to(3), up_to(3)];
        window.dilation = [up_to(2), up_to(2)];
        window.padding = match up_to(3) {
            1 => Padding::Same,
            2 => Padding::Valid,
            _ => Padding::Explicit {
                top: up_to(4) - 1,
                bottom: up_to(4) - 1,
                left: up_to(4) - 1,
                right: up_to(4) - 1,
            },
        };
        let batch = up_to(3);
        // Draws again if the window has no output.
        if let Ok(c) = Conv2d::new(input, c_out, window, groups, "random") {
            return (c, batch);
        }
    }
}

/// Returns the shapes of input `x`, kernel and output `y` of a convolution.
pub fn convolution_shapes(c: &Conv2d, batch: usize) -> [Vec<usize>; 3] {
    let w = &c.window;
    [
        vec![batch, w.input[0], w.input[1], c.c_in],
        c.kernel_shape().to_vec(),
        vec![batch, w.output[0], w.output[1], c.c_out],
    ]
}

/// Returns the number of elements of a shape.
pub fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}
