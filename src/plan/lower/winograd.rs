//! Convolutions of 3x3 and 5x5 at stride 1 by Winograd's F(4x4, 3x3) and F(4x4, 5x5): a quarter or a sixth of the multiplications,
//! for the passes that transform.

use super::{Lowering, Place};
use crate::graph::{Conv2d, Node};
use crate::kernels::{
    Gemm, Matrix, TILE, Tiles, components, winograd_input, winograd_kernel, winograd_kernel_grad,
    winograd_output, winograd_output_grad,
};
use crate::plan::fuse::Ending;
use crate::shape::WindowGeometry;
use std::ops::Range;

/// When the products of a convolution are made fewer by transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winograd {
    /// Never: each result is one sum of products.
    Never,
    /// Where the cost model of the adapter's class says that it pays.
    Auto,
    /// Wherever it is possible.
    Always,
}

/// What the components of a part of the batch may take: little beside the activations, and within the caches.
const PART_BYTES: u64 = 8 << 20;
/// Whether the transforms can compute this convolution and its gradients.
pub(super) fn can_transform(conv: &Conv2d, max_binding: u64) -> bool {
    let w = &conv.window;
    [[3, 3], [5, 5]].contains(&w.kernel)
        && w.stride == [1, 1]
        && w.dilation == [1, 1]
        && conv.groups == 1
        && w.pad_begin.iter().all(|&pad| pad < w.kernel[0])
        && conv.c_in.is_multiple_of(4)
        && conv.c_out.is_multiple_of(4)
        && fits(conv, max_binding)
}

/// Whether the components of one image, forward or back, and those of the kernels fit a binding.
fn fits(conv: &Conv2d, max_binding: u64) -> bool {
    let w = &conv.window;
    let tiles = |size: [usize; 2]| size.map(|n| n.div_ceil(TILE)).iter().product::<usize>();
    let of_image = tiles(w.input).max(tiles(w.output)).saturating_mul(conv.c_in.max(conv.c_out));
    let of_kernels = conv.c_in.saturating_mul(conv.c_out);
    let bytes = (4 * components(w.kernel[0]) as u64).saturating_mul(of_image.max(of_kernels) as u64);
    bytes <= max_binding
}

impl Lowering<'_> {
    pub(super) fn winograd_forward(&mut self, node: &Node, conv: &Conv2d, ending: Ending) {
        let [x, kernel] = [0, 1].map(|i| Place::Value(node.inputs[i]));
        let channels = [conv.c_in, conv.c_out];
        self.winograd_product(node, conv.window, channels, [x, kernel], false, ending);
    }

    pub(super) fn winograd_grad_input(&mut self, node: &Node, conv: &Conv2d, ending: Ending) {
        let [dy, kernel] = [0, 1].map(|i| Place::Value(node.inputs[i]));
        let w = conv.window;
        let window = WindowGeometry {
            pad_begin: w.pad_begin.map(|pad| w.kernel[0] - 1 - pad),
            input: w.output,
            output: w.input,
            ..w
        };
        self.winograd_product(node, window, [conv.c_out, conv.c_in], [dy, kernel], true, ending);
    }

    /// From images of `channels[0]` to images of `channels[1]`; `back`: with the kernels turned and transposed.
    fn winograd_product(
        &mut self,
        node: &Node,
        window: WindowGeometry,
        channels: [usize; 2],
        operands: [Place; 2],
        back: bool,
        ending: Ending,
    ) {
        let [from, to] = channels;
        let taps = window.kernel[0];
        let components = components(taps);
        // As the kernel is stored.
        let [c_in, c_out] = if back { [to, from] } else { [from, to] };
        let kernels = self.workspace(components * from * to);
        self.push(node, winograd_kernel(taps, c_in, c_out, back), vec![operands[1], kernels]);
        for images in self.images_at_a_time(window, from + to) {
            let tiles = Tiles { window, first: images.start, images: images.len() };
            let inputs = self.workspace(components * tiles.count() * from);
            self.push(node, winograd_input(&tiles, from), vec![operands[0], inputs]);
            let sums = self.workspace(components * tiles.count() * to);
            let product = Gemm {
                a: Matrix { group: tiles.count() * from, ..Matrix::rows(from) },
                b: Matrix { group: from * to, ..Matrix::rows(c_out) },
                c: Matrix { group: tiles.count() * to, ..Matrix::rows(to) },
                transpose_b: back,
                groups: components,
                m_per_row: tiles.per_image(),
                first_row: images.start,
                ..Gemm::plain(tiles.count(), to, from)
            };
            self.product(node, &product, &[inputs, kernels, sums]);
            let extra = ending.extra.map_or(sums, Place::Value);
            let mut places = vec![sums, extra, Place::Value(ending.output)];
            places.extend(ending.position.map(Place::Value));
            let launch = winograd_output(&tiles, to, ending.epilogue, ending.position.is_some());
            self.push(node, launch, places);
        }
    }

    pub(super) fn winograd_grad_kernel(&mut self, node: &Node, conv: &Conv2d) {
        let [x, dy] = [0, 1].map(|i| Place::Value(node.inputs[i]));
        let window = conv.window;
        let taps = window.kernel[0];
        let components = components(taps);
        let sums = self.workspace(components * conv.c_in * conv.c_out);
        for images in self.images_at_a_time(window, conv.c_in + conv.c_out) {
            let tiles = Tiles { window, first: images.start, images: images.len() };
            let inputs = self.workspace(components * tiles.count() * conv.c_in);
            self.push(node, winograd_input(&tiles, conv.c_in), vec![x, inputs]);
            let gradients = self.workspace(components * tiles.count() * conv.c_out);
            self.push(node, winograd_output_grad(&tiles, conv.c_out), vec![dy, gradients]);
            let product = Gemm {
                a: Matrix { group: tiles.count() * conv.c_in, ..Matrix::rows(conv.c_in) },
                b: Matrix { group: tiles.count() * conv.c_out, ..Matrix::rows(conv.c_out) },
                c: Matrix { group: conv.c_in * conv.c_out, ..Matrix::rows(conv.c_out) },
                transpose_a: true,
                groups: components,
                k_per_row: tiles.per_image(),
                first_row: images.start,
                accumulate: images.start > 0,
                ..Gemm::plain(conv.c_in, conv.c_out, tiles.count())
            };
            self.product(node, &product, &[inputs, gradients, sums]);
        }
        let result = Place::Value(node.outputs[0]);
        self.push(node, winograd_kernel_grad(taps, conv.c_in, conv.c_out), vec![sums, result]);
    }

    /// Cuts the batch so that the components of each part, of so many channels, fit a workspace.
    fn images_at_a_time(&self, window: WindowGeometry, channels: usize) -> Vec<Range<usize>> {
        let of_image =
            components(window.kernel[0]) * Tiles { window, first: 0, images: 1 }.count() * channels;
        self.parts_of_batch(of_image, PART_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Padding, Window};

    #[test]
    fn components_beyond_a_binding_go_the_direct_way() {
        let goes = |size: usize, channels: usize, taps: usize| {
            let window = Window { padding: Padding::Same, ..Window::new([taps, taps]) };
            let conv = Conv2d::new([size, size, channels], channels, window, 1, "conv").unwrap();
            can_transform(&conv, 128 << 20)
        };
        assert!(goes(64, 32, 5) && goes(64, 32, 3));
        // One image of 640 x 640 is 52 MB, its components are 118 and 210; the kernels' are 151 and 268 MB.
        assert!(goes(640, 32, 3) && !goes(640, 32, 5));
        assert!(!goes(64, 1024, 3) && !goes(64, 1024, 5));
    }
}
