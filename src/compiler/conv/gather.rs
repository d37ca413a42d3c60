//! Gathers parts of images into dense matrices, and scatters results into a kernel gradient.

use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, Resource};
use crate::graph::Conv2d;
use crate::kernels::{Images, gather_patches, scatter_splits};
use crate::shape::WindowGeometry;
use std::ops::Range;

/// An element to gather from each patch: `[row, column, channel, 1]`, with row and column relative to the
/// patch's top left corner. `[0, 0, 0, 0]` gathers the constant 0.
pub(super) type PatchElement = [u32; 4];

/// Gathers the given elements of every patch into a workspace, `[patches, elements]`.
pub(super) fn gather(
    b: &mut Builder,
    op: &Operation,
    images: &Images,
    elements: &[PatchElement],
    from: Resource,
) -> Resource {
    let list = b.list(elements.concat());
    let gathered = b.workspace(images.count * images.window.outputs() * elements.len());
    b.push(op, gather_patches(images, elements.len()), vec![list, from, gathered]);
    gathered
}

/// Gathers the channels `chosen` of a range of images into a workspace `[pixels, chosen channels]`, padded
/// with zeros to a multiple of 4 channels.
pub(super) fn gather_channels(
    b: &mut Builder,
    op: &Operation,
    [height, width, channels]: [usize; 3],
    chosen: &[usize],
    images: Range<usize>,
    from: Resource,
) -> Resource {
    let window = one_pixel([height, width]);
    let images = Images { window, channels, groups: 1, first: images.start, count: images.len() };
    let mut elements: Vec<_> = chosen.iter().map(|&channel| [0, 0, channel as u32, 1]).collect();
    elements.resize(chosen.len().next_multiple_of(4), [0; 4]);
    gather(b, op, &images, &elements, from)
}

/// Reduces partial sums `[splits, indices.len()]` over the first axis, and writes sum `i` to element
/// `indices[i]` of the kernel gradient. Sums with the index `NO_INDEX` are not written.
pub(super) fn scatter(b: &mut Builder, op: &Operation, indices: Vec<u32>, splits: usize, from: Resource) {
    let count = indices.len();
    let list = b.list(indices);
    b.push(op, scatter_splits(count, splits), vec![list, from, Resource::Value(op.node.outputs[0])]);
}

/// Returns the patch element that the forward pass multiplies with this row of the kernel matrix. Its channel
/// is relative to the first channel of the group.
pub(super) fn patch_element(conv: &Conv2d, row: usize) -> PatchElement {
    let w = &conv.window;
    let (tap, channel) = (row / conv.c_in_per_group(), row % conv.c_in_per_group());
    let [down, across] = [tap / w.kernel[1] * w.dilation[0], tap % w.kernel[1] * w.dilation[1]];
    [down as u32, across as u32, channel as u32, 1]
}

/// Returns the window of a 1x1 kernel of stride 1 over images of this size.
pub(super) fn one_pixel(size: [usize; 2]) -> WindowGeometry {
    WindowGeometry {
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad_begin: [0, 0],
        input: size,
        output: size,
    }
}
