//! Convolutions with a kernel of its own for each channel. A product for each of them would have one column, which leaves
//! all lanes but one idle.

use super::{Lowering, Place};
use crate::graph::{Conv2d, Node};
use crate::kernels::{
    Epilogue, Images, bias_grad, depthwise_conv2d, depthwise_conv2d_grad_input, depthwise_conv2d_grad_kernel,
};
use crate::plan::fuse::Ending;

/// Pixels of a split of the kernel's gradient, at least, and the most splits.
const PIXELS: usize = 256;
const MAX_SPLITS: usize = 256;

impl Lowering<'_> {
    pub(super) fn depthwise_conv2d(&mut self, node: &Node, conv: &Conv2d, ending: Option<Ending>) {
        let (x, kernel) = (node.inputs[0], node.inputs[1]);
        let bias = ending.and_then(|e| e.extra);
        let relu = ending.is_some_and(|e| e.epilogue == Epilogue::Bias { relu: true });
        let launch = depthwise_conv2d(&self.pool_images(conv.window, conv.c_in), bias.is_some(), relu);
        let output = ending.map_or(node.outputs[0], |e| e.output);
        let bound = [x, kernel, bias.unwrap_or(kernel), output];
        self.push(node, launch, bound.map(Place::Value).to_vec());
    }

    pub(super) fn depthwise_grad_input(&mut self, node: &Node, conv: &Conv2d, ending: Option<Ending>) {
        let launch = depthwise_conv2d_grad_input(&self.pool_images(conv.window, conv.c_in));
        let bound = [node.inputs[0], node.inputs[1], node.outputs[0]];
        self.push(node, launch, bound.map(Place::Value).to_vec());
        self.relu_grad_after(node, ending.unwrap_or(Ending::plain(node.outputs[0])));
    }

    pub(super) fn depthwise_grad_kernel(&mut self, node: &Node, conv: &Conv2d) {
        let w = &conv.window;
        let lines = self.graph.batch() * w.output[0];
        let splits = (lines * w.output[1] / PIXELS).clamp(1, MAX_SPLITS).min(lines);
        let images = Images { groups: splits, ..self.pool_images(conv.window, conv.c_in) };
        let launch = depthwise_conv2d_grad_kernel(&images);
        let [x, dy, result] = [node.inputs[0], node.inputs[1], node.outputs[0]].map(Place::Value);
        if splits == 1 {
            self.push(node, launch, vec![x, dy, result]);
            return;
        }
        let elements = w.taps() * conv.c_in;
        let partial = self.workspace(splits * elements);
        self.push(node, launch, vec![x, dy, partial]);
        self.push(node, bias_grad(splits, 0, elements, 1), vec![partial, result]);
    }
}
