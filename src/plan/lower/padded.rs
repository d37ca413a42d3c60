//! Convolutions of images with three channels (or seven, or eleven) as if they had one more, which is 0: elements then come by
//! fours, and one shader serves these and all others.

use super::{Lowering, Place};
use crate::graph::{Conv2d, Node};
use crate::kernels::{Gemm, Matrix, NO_INDEX, Source, gather};
use crate::plan::fuse::Ending;

impl Lowering<'_> {
    pub(super) fn padded_forward(&mut self, node: &Node, conv: &Conv2d, ending: Ending) {
        let images = self.padded_images(node, conv);
        let width = conv.c_in + 1;
        let rows = conv.window.taps() * width;
        let place = |index: usize| {
            let (row, column) = (index / conv.c_out, index % conv.c_out);
            let (tap, channel) = (row / width, row % width);
            let inside = channel < conv.c_in;
            if inside { ((tap * conv.c_in + channel) * conv.c_out + column) as u32 } else { NO_INDEX }
        };
        let count = rows * conv.c_out;
        let kernel = self.workspace(count);
        let places = self.list((0..count).map(place).collect());
        self.push(node, gather(count), vec![places, Place::Value(node.inputs[1]), kernel]);
        let product = Gemm {
            a: Matrix::rows(width),
            source: Source::Patches(conv.window),
            m_per_row: conv.window.outputs(),
            epilogue: ending.epilogue,
            pooled: ending.position.is_some(),
            ..Gemm::plain(self.graph.batch() * conv.window.outputs(), conv.c_out, rows)
        };
        self.ending_product(node, &product, [images, kernel], ending);
    }

    pub(super) fn padded_grad_kernel(&mut self, node: &Node, conv: &Conv2d) {
        let images = self.padded_images(node, conv);
        let width = conv.c_in + 1;
        let rows = conv.window.taps() * width;
        let sums = self.workspace(rows * conv.c_out);
        let product = Gemm {
            a: Matrix::rows(width),
            source: Source::Patches(conv.window),
            transpose_a: true,
            k_per_row: conv.window.outputs(),
            ..Gemm::plain(rows, conv.c_out, self.graph.batch() * conv.window.outputs())
        };
        self.product(node, &product, &[images, Place::Value(node.inputs[1]), sums]);
        let place = |index: usize| {
            let (row, column) = (index / conv.c_out, index % conv.c_out);
            let (tap, channel) = (row / conv.c_in, row % conv.c_in);
            ((tap * width + channel) * conv.c_out + column) as u32
        };
        let count = conv.depth() * conv.c_out;
        let places = self.list((0..count).map(place).collect());
        self.push(node, gather(count), vec![places, sums, Place::Value(node.outputs[0])]);
    }

    /// The images with a channel of zeros more.
    fn padded_images(&mut self, node: &Node, conv: &Conv2d) -> Place {
        let channels: Vec<usize> = (0..conv.c_in).collect();
        let whole = 0..self.graph.batch();
        self.gather_channels(
            node,
            conv.window.input,
            conv.c_in,
            &channels,
            whole,
            Place::Value(node.inputs[0]),
        )
    }
}
