//! Weight gradients of which only a part is computed: what is needed is gathered, multiplied, and put in its place.

use super::savings::{Way, flipped, weight_gradient};
use super::{Lowering, Place};
use crate::error::Result;
use crate::graph::{Conv2d, Node};
use crate::kernels::{
    Gemm, Images, KernelGradElements, Matrix, NO_INDEX, Source, gather_patches, kernel_grad_elements,
    scatter_splits,
};
use crate::shape::WindowGeometry;
use std::ops::Range;

/// Terms of one invocation's sum for an element, about.
const TERMS: usize = 1024;

/// What is gathered: from which images, and the terms of each patch, filled up to a multiple of 4.
struct Gathered {
    images: Images,
    terms: Vec<[u32; 4]>,
}

impl Lowering<'_> {
    /// Whether the node was a weight gradient of which only a part is computed.
    pub(super) fn partial(&mut self, node: &Node, way: &Way) -> Result<bool> {
        let Some(conv) = weight_gradient(self.graph, node) else { return Ok(false) };
        match way {
            Way::Dense => return Ok(false),
            Way::Columns { live, swapped } => self.columns_of(node, &conv, live, *swapped)?,
            Way::Rows(live) => self.rows_of(node, &conv, live)?,
            Way::Elements(live) => self.elements_of(node, &conv, live),
        }
        Ok(true)
    }

    fn columns_of(&mut self, node: &Node, conv: &Conv2d, live: &[usize], swapped: bool) -> Result<()> {
        let [x, dy] = [0, 1].map(|i| Place::Value(node.inputs[i]));
        let width = live.len().next_multiple_of(4);
        let flip = flipped(conv).filter(|_| swapped);
        let rows = if flip.is_some() { conv.window.taps() * width } else { conv.depth() };
        let columns = if flip.is_some() { conv.c_in } else { width };
        let result = self.workspace(rows * columns);
        for images in self.parts_of_batch(conv.window.outputs() * width, u64::MAX) {
            let chosen = self.gather_channels(node, conv.window.output, conv.c_out, live, images.clone(), dy);
            let x_at = Matrix {
                offset: images.start * conv.window.input[0] * conv.window.input[1] * conv.c_in,
                ..Matrix::rows(conv.c_in)
            };
            let common = Gemm {
                transpose_a: true,
                first_row: images.start,
                accumulate: images.start > 0,
                specialized: true,
                ..Gemm::plain(rows, columns, 0)
            };
            let (product, places) = match flip {
                Some(window) => {
                    let product = Gemm {
                        k: images.len() * window.outputs(),
                        k_per_row: window.outputs(),
                        a: Matrix::rows(width),
                        source: source(window),
                        b: x_at,
                        ..common
                    };
                    (product, [chosen, x, result])
                }
                None => {
                    let product = Gemm {
                        k: images.len() * conv.window.outputs(),
                        k_per_row: conv.window.outputs(),
                        a: x_at,
                        source: source(conv.window),
                        b: Matrix::rows(width),
                        ..common
                    };
                    (product, [x, chosen, result])
                }
            };
            self.product(node, &product, &places);
        }
        let place = |row: usize, column: usize| {
            // By rows: a tap, the last one first, and a column of the kernel; or a row of the kernel.
            let (of_kernel, column) = if flip.is_some() {
                let tap = conv.window.taps() - 1 - row / width;
                (tap * conv.c_in + column, live.get(row % width))
            } else {
                (row, live.get(column))
            };
            column.map_or(NO_INDEX, |column| (of_kernel * conv.c_out + column) as u32)
        };
        let places = (0..rows * columns).map(|i| place(i / columns, i % columns)).collect();
        self.scatter(node, places, 1, result);
        Ok(())
    }

    fn rows_of(&mut self, node: &Node, conv: &Conv2d, live: &[usize]) -> Result<()> {
        let [x, dy] = [0, 1].map(|i| Place::Value(node.inputs[i]));
        let width = live.len().next_multiple_of(4);
        let mut gathered = Gathered {
            images: Images { window: conv.window, channels: conv.c_in, groups: 1, first: 0, count: 0 },
            terms: live.iter().map(|&row| term(conv, row)).collect(),
        };
        gathered.terms.resize(width, [0; 4]);
        let result = self.workspace(width * conv.c_out);
        let outputs = conv.window.outputs();
        for images in self.parts_of_batch(outputs * width, u64::MAX) {
            gathered.images.first = images.start;
            gathered.images.count = images.len();
            let chosen = self.gather(node, &gathered, x);
            let product = Gemm {
                a: Matrix::rows(width),
                b: Matrix { offset: images.start * outputs * conv.c_out, ..Matrix::rows(conv.c_out) },
                transpose_a: true,
                k_per_row: outputs,
                first_row: images.start,
                accumulate: images.start > 0,
                ..Gemm::plain(width, conv.c_out, images.len() * outputs)
            };
            self.product(node, &product, &[chosen, dy, result]);
        }
        let place = |row: usize, column: usize| {
            live.get(row).map_or(NO_INDEX, |row| (row * conv.c_out + column) as u32)
        };
        let places = (0..width * conv.c_out).map(|i| place(i / conv.c_out, i % conv.c_out)).collect();
        self.scatter(node, places, 1, result);
        Ok(())
    }

    fn elements_of(&mut self, node: &Node, conv: &Conv2d, live: &[usize]) {
        let [x, dy] = [0, 1].map(|i| Place::Value(node.inputs[i]));
        let batch = self.graph.batch();
        let splits = (batch * conv.window.outputs()).div_ceil(TERMS).clamp(1, batch);
        let element = |&index: &usize| {
            let column = index % conv.c_out;
            let mut element = term(conv, index / conv.c_out);
            element[2] += (column / conv.c_out_per_group() * conv.c_in_per_group()) as u32;
            [element[0], element[1], element[2], column as u32]
        };
        let elements = self.list(live.iter().flat_map(element).collect());
        let sums = self.workspace(splits * live.len());
        let dots = KernelGradElements {
            window: conv.window,
            c_in: conv.c_in,
            c_out: conv.c_out,
            images: batch,
            splits,
        };
        self.push(node, kernel_grad_elements(&dots, live.len()), vec![elements, x, dy, sums]);
        self.scatter(node, live.iter().map(|&index| index as u32).collect(), splits, sums);
    }

    /// Some channels of some images, `[pixels, channels]`, with zeros up to a multiple of 4.
    pub(super) fn gather_channels(
        &mut self,
        node: &Node,
        size: [usize; 2],
        of: usize,
        channels: &[usize],
        images: Range<usize>,
        from: Place,
    ) -> Place {
        let images = Images {
            window: one_pixel(size),
            channels: of,
            groups: 1,
            first: images.start,
            count: images.len(),
        };
        let mut terms: Vec<_> = channels.iter().map(|&channel| [0, 0, channel as u32, 1]).collect();
        terms.resize(channels.len().next_multiple_of(4), [0; 4]);
        self.gather(node, &Gathered { images, terms }, from)
    }

    fn gather(&mut self, node: &Node, what: &Gathered, from: Place) -> Place {
        let terms = self.list(what.terms.concat());
        let chosen = self.workspace(what.images.count * what.images.window.outputs() * what.terms.len());
        self.push(node, gather_patches(&what.images, what.terms.len()), vec![terms, from, chosen]);
        chosen
    }

    fn scatter(&mut self, node: &Node, places: Vec<u32>, splits: usize, sums: Place) {
        let count = places.len();
        let places = self.list(places);
        let to = vec![places, sums, Place::Value(node.outputs[0])];
        self.push(node, scatter_splits(count, splits), to);
    }

    /// Cuts the batch so that what is made of each part, so many elements of an example, fits a workspace of so many bytes.
    pub(super) fn parts_of_batch(&self, elements: usize, bytes: u64) -> Vec<Range<usize>> {
        let batch = self.graph.batch();
        let bytes = bytes.min(self.limits.workspace_bytes).min(self.limits.max_binding);
        let most = bytes / (4 * elements as u64).max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX).clamp(1, batch);
        let each = batch.div_ceil(batch.div_ceil(most));
        (0..batch).step_by(each).map(|start| start..(start + each).min(batch)).collect()
    }
}

/// Row and column from the patch's corner, channel within its group, and 1.
fn term(conv: &Conv2d, row: usize) -> [u32; 4] {
    let w = &conv.window;
    let (tap, channel) = (row / conv.c_in_per_group(), row % conv.c_in_per_group());
    let [h, v] = [tap / w.kernel[1] * w.dilation[0], tap % w.kernel[1] * w.dilation[1]];
    [h as u32, v as u32, channel as u32, 1]
}

/// The window of single pixels over images of this size.
fn one_pixel(size: [usize; 2]) -> WindowGeometry {
    WindowGeometry {
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad_begin: [0, 0],
        input: size,
        output: size,
    }
}

/// Patches of one pixel each are the rows of a matrix.
fn source(window: WindowGeometry) -> Source {
    if window == one_pixel(window.input) { Source::Matrix } else { Source::Patches(window) }
}
