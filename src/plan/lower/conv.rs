//! Convolutions: patches as columns, and products with them.

use super::algorithm::{Algorithm, Pass, choose, is_pointwise};
use super::{Lowering, Place};
use crate::error::{Error, Result};
use crate::graph::{Conv2d, Node};
use crate::kernels::{Epilogue, Gemm, Images, Matrix, Source, col2im, im2col};
use crate::plan::fuse::Ending;
use std::ops::Range;

/// Groups ride in z, which has 65,535 workgroups at most.
const MAX_GROUPS: usize = 65_535;

impl Lowering<'_> {
    pub(super) fn conv2d(&mut self, node: &Node, conv: &Conv2d, ending: Option<Ending>) -> Result<()> {
        let algorithm = choose(conv, Pass::Forward, &self.conditions());
        if algorithm == Algorithm::Depthwise {
            self.depthwise_conv2d(node, conv, ending);
            return Ok(());
        }
        let ending = ending.unwrap_or(Ending::plain(node.outputs[0]));
        match algorithm {
            Algorithm::Winograd => self.winograd_forward(node, conv, ending),
            Algorithm::PaddedChannels => self.padded_forward(node, conv, ending),
            Algorithm::ImplicitGemm => self.implicit_forward(node, conv, ending),
            _ => return self.column_forward(node, conv, ending),
        }
        Ok(())
    }

    fn implicit_forward(&mut self, node: &Node, conv: &Conv2d, ending: Ending) {
        let operands = [0, 1].map(|i| Place::Value(node.inputs[i]));
        let product = Gemm {
            m: self.graph.batch() * conv.window.outputs(),
            n: conv.c_out_per_group(),
            k: conv.depth(),
            a: input_matrix(conv, 0),
            source: Source::Patches(conv.window),
            b: Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset: 0 },
            c: output_matrix(conv, 0),
            groups: conv.groups,
            m_per_row: conv.window.outputs(),
            epilogue: ending.epilogue,
            pooled: ending.position.is_some(),
            ..Gemm::plain(0, 0, 0)
        };
        self.ending_product(node, &product, operands, ending);
    }

    /// By columns in memory; of a pointwise convolution, by the images as they are.
    fn column_forward(&mut self, node: &Node, conv: &Conv2d, ending: Ending) -> Result<()> {
        let (x, kernel) = (Place::Value(node.inputs[0]), Place::Value(node.inputs[1]));
        for images in self.chunks(node, conv)? {
            let columns = self.columns(node, conv, x, &images);
            let outputs = images.len() * conv.window.outputs();
            let product = Gemm {
                m: outputs,
                n: conv.c_out_per_group(),
                k: conv.depth(),
                a: columns.matrix,
                b: Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset: 0 },
                c: output_matrix(conv, images.start),
                groups: conv.groups,
                m_per_row: conv.window.outputs(),
                first_row: images.start,
                epilogue: ending.epilogue,
                ..Gemm::plain(0, 0, 0)
            };
            self.ending_product(node, &product, [columns.place, kernel], ending);
        }
        Ok(())
    }

    pub(super) fn conv2d_grad_kernel(&mut self, node: &Node, conv: &Conv2d) -> Result<()> {
        let (x, dy) = (Place::Value(node.inputs[0]), Place::Value(node.inputs[1]));
        match choose(conv, Pass::GradKernel, &self.conditions()) {
            Algorithm::Depthwise => self.depthwise_grad_kernel(node, conv),
            Algorithm::Winograd => self.winograd_grad_kernel(node, conv),
            Algorithm::PaddedChannels => self.padded_grad_kernel(node, conv),
            Algorithm::ImplicitGemm => {
                let product = self.grad_kernel_product(conv, Source::Patches(conv.window));
                self.product(node, &product, &[x, dy, Place::Value(node.outputs[0])]);
            }
            Algorithm::Pointwise => {
                let product = self.grad_kernel_product(conv, Source::Matrix);
                self.product(node, &product, &[x, dy, Place::Value(node.outputs[0])]);
            }
            _ => return self.column_grad_kernel(node, conv),
        }
        Ok(())
    }

    fn column_grad_kernel(&mut self, node: &Node, conv: &Conv2d) -> Result<()> {
        let (x, dy) = (Place::Value(node.inputs[0]), Place::Value(node.inputs[1]));
        for images in self.chunks(node, conv)? {
            let columns = self.columns(node, conv, x, &images);
            let product = Gemm {
                m: conv.depth(),
                n: conv.c_out_per_group(),
                k: images.len() * conv.window.outputs(),
                a: columns.matrix,
                b: output_matrix(conv, images.start),
                c: Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset: 0 },
                transpose_a: true,
                groups: conv.groups,
                k_per_row: conv.window.outputs(),
                first_row: images.start,
                accumulate: images.start > 0,
                ..Gemm::plain(0, 0, 0)
            };
            let places = vec![columns.place, dy, Place::Value(node.outputs[0])];
            self.product(node, &product, &places);
        }
        Ok(())
    }

    fn grad_kernel_product(&self, conv: &Conv2d, source: Source) -> Gemm {
        Gemm {
            m: conv.depth(),
            n: conv.c_out_per_group(),
            k: self.graph.batch() * conv.window.outputs(),
            a: input_matrix(conv, 0),
            source,
            b: output_matrix(conv, 0),
            c: Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset: 0 },
            transpose_a: true,
            groups: conv.groups,
            k_per_row: conv.window.outputs(),
            ..Gemm::plain(0, 0, 0)
        }
    }

    pub(super) fn conv2d_grad_input(
        &mut self,
        node: &Node,
        conv: &Conv2d,
        ending: Option<Ending>,
    ) -> Result<()> {
        let algorithm = choose(conv, Pass::GradInput, &self.conditions());
        if algorithm == Algorithm::Depthwise {
            self.depthwise_grad_input(node, conv, ending);
            return Ok(());
        }
        let ending = ending.unwrap_or(Ending::plain(node.outputs[0]));
        let operands = [0, 1].map(|i| Place::Value(node.inputs[i]));
        match algorithm {
            Algorithm::Winograd => self.winograd_grad_input(node, conv, ending),
            Algorithm::ImplicitGemm => {
                let inputs = conv.window.input[0] * conv.window.input[1];
                let product = Gemm {
                    m: self.graph.batch() * inputs,
                    n: conv.c_in_per_group(),
                    k: conv.window.taps() * conv.c_out_per_group(),
                    a: output_matrix(conv, 0),
                    source: Source::Gradients(conv.window),
                    b: Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset: 0 },
                    c: input_matrix(conv, 0),
                    transpose_b: true,
                    groups: conv.groups,
                    m_per_row: inputs,
                    epilogue: ending.epilogue,
                    ..Gemm::plain(0, 0, 0)
                };
                self.ending_product(node, &product, operands, ending);
            }
            Algorithm::StridedGradInput => {
                for product in self.strided_grad_input(conv) {
                    let product = Gemm { epilogue: ending.epilogue, ..product };
                    self.ending_product(node, &product, operands, ending);
                }
            }
            _ => return self.column_grad_input(node, conv, ending),
        }
        Ok(())
    }

    /// By columns in memory; of a pointwise convolution, into the images as they are.
    fn column_grad_input(&mut self, node: &Node, conv: &Conv2d, ending: Ending) -> Result<()> {
        let (dy, kernel) = (Place::Value(node.inputs[0]), Place::Value(node.inputs[1]));
        for images in self.chunks(node, conv)? {
            let outputs = images.len() * conv.window.outputs();
            let pointwise = is_pointwise(conv);
            let columns = if pointwise {
                Columns { place: Place::Value(ending.output), matrix: input_matrix(conv, images.start) }
            } else {
                let place = self.workspace(conv.groups * outputs * conv.depth());
                Columns { place, matrix: column_matrix(conv, images.len()) }
            };
            let product = Gemm {
                m: outputs,
                n: conv.depth(),
                k: conv.c_out_per_group(),
                a: output_matrix(conv, images.start),
                b: Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset: 0 },
                c: columns.matrix,
                transpose_b: true,
                groups: conv.groups,
                m_per_row: conv.window.outputs(),
                first_row: images.start,
                epilogue: if pointwise { ending.epilogue } else { Epilogue::None },
                ..Gemm::plain(0, 0, 0)
            };
            let mut places = vec![dy, kernel, columns.place];
            places.extend(ending.extra.map(Place::Value));
            self.product(node, &product, &places);
            if !pointwise {
                let launch = col2im(&conv_images(conv, &images));
                self.push(node, launch, vec![columns.place, Place::Value(node.outputs[0])]);
            }
        }
        if !is_pointwise(conv) {
            self.relu_grad_after(node, ending);
        }
        Ok(())
    }

    /// Whether the forward convolution can end with a pool.
    pub(super) fn can_pool(&self, conv: &Conv2d) -> bool {
        let algorithm = choose(conv, Pass::Forward, &self.conditions());
        matches!(algorithm, Algorithm::Winograd | Algorithm::PaddedChannels | Algorithm::ImplicitGemm)
    }

    /// A product with its ending.
    pub(super) fn ending_product(&mut self, node: &Node, product: &Gemm, ab: [Place; 2], ending: Ending) {
        // What is bound where nothing is read.
        let extra = ending.extra.map_or(ab[1], Place::Value);
        let mut places = vec![ab[0], ab[1], Place::Value(ending.output), extra];
        places.extend(ending.position.map(Place::Value));
        self.product(node, product, &places);
    }

    /// The patches of some images: a workspace, or the images themselves where every patch is one pixel.
    fn columns(&mut self, node: &Node, conv: &Conv2d, x: Place, images: &Range<usize>) -> Columns {
        if is_pointwise(conv) {
            return Columns { place: x, matrix: input_matrix(conv, images.start) };
        }
        let place = self.workspace(conv.groups * images.len() * conv.window.outputs() * conv.depth());
        self.push(node, im2col(&conv_images(conv, images)), vec![x, place]);
        Columns { place, matrix: column_matrix(conv, images.len()) }
    }

    /// Cuts the batch so that the columns of each part fit a workspace.
    fn chunks(&self, node: &Node, conv: &Conv2d) -> Result<Vec<Range<usize>>> {
        if conv.groups > MAX_GROUPS {
            let what = format!("{}: groups", node.label);
            return Err(Error::LimitExceeded {
                what,
                needed: conv.groups as u64,
                available: MAX_GROUPS as u64,
            });
        }
        let batch = self.graph.batch();
        if is_pointwise(conv) {
            return Ok(std::iter::once(0..batch).collect());
        }
        let image = (4 * (conv.groups * conv.window.outputs()) as u64).saturating_mul(conv.depth() as u64);
        if image > self.limits.max_binding {
            let what = format!("{}: the columns of one image", node.label);
            return Err(Error::LimitExceeded { what, needed: image, available: self.limits.max_binding });
        }
        let most = (self.limits.workspace_bytes.min(self.limits.max_binding) / image).max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(batch);
        // Parts of equal size, rather than a small last one.
        let each = batch.div_ceil(batch.div_ceil(most));
        Ok((0..batch).step_by(each).map(|start| start..(start + each).min(batch)).collect())
    }
}

struct Columns {
    place: Place,
    matrix: Matrix,
}

fn conv_images(conv: &Conv2d, images: &Range<usize>) -> Images {
    Images {
        window: conv.window,
        channels: conv.c_in,
        groups: conv.groups,
        first: images.start,
        count: images.len(),
    }
}

fn column_matrix(conv: &Conv2d, images: usize) -> Matrix {
    Matrix { stride: conv.depth(), group: images * conv.window.outputs() * conv.depth(), offset: 0 }
}

fn input_matrix(conv: &Conv2d, first: usize) -> Matrix {
    let pixels = conv.window.input[0] * conv.window.input[1];
    Matrix { stride: conv.c_in, group: conv.c_in_per_group(), offset: first * pixels * conv.c_in }
}

pub(super) fn output_matrix(conv: &Conv2d, first: usize) -> Matrix {
    let offset = first * conv.window.outputs() * conv.c_out;
    Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset }
}
