//! From operations to kernels: a pure function of the graph, the layout and the adapter's report.

use super::Layout;
use super::fuse::{Ending, fuse};
use crate::error::{Error, Result};
use crate::graph::{Conv2d, Graph, MaxPool2d, Node, Op, ParameterId, UpdateRule, Value, ValueId};
use crate::kernels::{
    AdamUpdate, Epilogue, Extent, Gemm, GemmFamily, Images, Launch, MOST_ROUNDS, Matrix, SgdMomentumUpdate,
    adam_update, bias_add, bias_grad, col2im, gemm, im2col, max_pool2d, max_pool2d_grad, metrics, relu,
    relu_grad, sgd_momentum_update, sgd_update, softmax_cross_entropy, softmax_cross_entropy_grad,
};
use std::ops::Range;

/// What a step binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A value, wherever it lives.
    Value(ValueId),
    /// Memory that only a few steps use.
    Workspace(usize),
    /// A buffer of the weights' arena.
    Weights(usize),
    /// A buffer of the gradients' arena.
    Gradients(usize),
    /// A buffer of the masks' arena.
    Mask(usize),
    /// A buffer of a state slot's arena.
    State(usize, usize),
    /// The running sums.
    Sums,
}

/// One dispatch.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub label: String,
    pub launch: Launch,
    pub places: Vec<Place>,
}

/// The whole run.
#[derive(Debug, Default)]
pub(super) struct Lowered {
    pub steps: Vec<Step>,
    /// Bytes of each workspace.
    pub workspaces: Vec<u64>,
}

/// What the adapter and the options allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub family: GemmFamily,
    pub max_binding: u64,
    pub workspace_bytes: u64,
}

/// Workspaces stay below this where they can: a column matrix beyond the caches gains nothing.
pub(super) const WORKSPACE_BYTES: u64 = 64 << 20;

/// Groups ride in z, which has 65,535 workgroups at most.
const MAX_GROUPS: usize = 65_535;

pub(super) fn lower(graph: &Graph, layout: &Layout, limits: Limits) -> Result<Lowered> {
    let fusion = fuse(graph);
    let mut lowering = Lowering { graph, limits, out: Lowered::default() };
    for (index, node) in graph.nodes().iter().enumerate() {
        if !fusion.absorbed[index] {
            lowering.node(node, fusion.endings[index], layout)?;
        }
    }
    let long = lowering.out.steps.iter().find(|s| s.launch.rounds > MOST_ROUNDS);
    match long {
        None => Ok(lowering.out),
        Some(Step { label, launch, .. }) => Err(Error::LimitExceeded {
            what: format!("{label}: rounds of the loops in {}", launch.kernel.name),
            needed: launch.rounds as u64,
            available: MOST_ROUNDS as u64,
        }),
    }
}

struct Lowering<'a> {
    graph: &'a Graph,
    limits: Limits,
    out: Lowered,
}

impl Lowering<'_> {
    fn push(&mut self, node: &Node, launch: Launch, places: Vec<Place>) {
        self.out.steps.push(Step { label: node.label.clone(), launch, places });
    }

    fn product(&mut self, node: &Node, product: &Gemm, places: &[Place]) {
        for part in product.parts() {
            // The bias belongs to the last part alone.
            let bound = if part.epilogue == Epilogue::None { 3 } else { places.len() };
            self.push(node, gemm(&part, self.limits.family), places[..bound].to_vec());
        }
    }

    fn workspace(&mut self, elements: usize) -> Place {
        self.out.workspaces.push(4 * elements as u64);
        Place::Workspace(self.out.workspaces.len() - 1)
    }

    fn value(&self, id: ValueId) -> &Value {
        self.graph.at(id)
    }

    fn node(&mut self, node: &Node, ending: Option<Ending>, layout: &Layout) -> Result<()> {
        let inputs: Vec<Place> = node.inputs.iter().map(|&i| Place::Value(i)).collect();
        let all = |results: &[ValueId]| {
            inputs.iter().copied().chain(results.iter().map(|&r| Place::Value(r))).collect::<Vec<_>>()
        };
        let first = node.inputs.first().map(|&i| self.value(i));
        match (&node.op, first) {
            (Op::Conv2d(conv), _) => return self.conv2d(node, conv, ending),
            (Op::Conv2dGradInput(conv), _) => return self.conv2d_grad_input(node, conv),
            (Op::Conv2dGradKernel(conv), _) => return self.conv2d_grad_kernel(node, conv),
            (Op::MatMul { transpose_a, transpose_b }, _) => {
                return self.matmul(node, *transpose_a, *transpose_b, ending);
            }
            (Op::BiasAdd, Some(x)) => {
                let launch = bias_add(extent(x), x.shape.last());
                self.push(node, launch, all(&node.outputs));
            }
            (Op::BiasGrad, Some(dy)) => {
                let dy = dy.clone();
                self.bias_grad(node, &dy);
            }
            (Op::Relu, Some(x)) => {
                let launch = relu(extent(x));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::ReluGrad, Some(y)) => {
                let launch = relu_grad(extent(y));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::MaxPool2d(pool), _) => {
                let launch = max_pool2d(&self.pool_images(pool));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::MaxPool2dGrad(pool), _) => {
                let launch = max_pool2d_grad(&self.pool_images(pool));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::SoftmaxCrossEntropy, Some(logits)) => {
                let [rows, classes] = logits.shape.matrix(&node.label)?;
                self.push(node, softmax_cross_entropy(rows, classes), all(&node.outputs));
            }
            (Op::SoftmaxCrossEntropyGrad, Some(logits)) => {
                let [rows, classes] = logits.shape.matrix(&node.label)?;
                self.push(node, softmax_cross_entropy_grad(rows, classes), all(&node.outputs));
            }
            (Op::Metrics, _) => {
                let [rows, classes] = self.value(node.inputs[1]).shape.matrix(&node.label)?;
                let mut places = all(&node.outputs);
                places.push(Place::Sums);
                self.push(node, metrics(rows, classes), places);
            }
            // The same bytes under another shape.
            (Op::Reshape(_), _) => {}
            (Op::Update(rule, targets), _) => self.update(node, rule, targets, layout),
            (op, None) => return Err(Error::argument(&node.label, "operands", op.name())),
        }
        Ok(())
    }

    fn conv2d(&mut self, node: &Node, conv: &Conv2d, ending: Option<Ending>) -> Result<()> {
        let ending =
            ending.unwrap_or(Ending { epilogue: Epilogue::None, bias: None, output: node.outputs[0] });
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
            let mut places = vec![columns.place, kernel, Place::Value(ending.output)];
            places.extend(ending.bias.map(Place::Value));
            self.product(node, &product, &places);
        }
        Ok(())
    }

    fn conv2d_grad_kernel(&mut self, node: &Node, conv: &Conv2d) -> Result<()> {
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

    fn conv2d_grad_input(&mut self, node: &Node, conv: &Conv2d) -> Result<()> {
        let (dy, kernel) = (Place::Value(node.inputs[0]), Place::Value(node.inputs[1]));
        for images in self.chunks(node, conv)? {
            let outputs = images.len() * conv.window.outputs();
            let pointwise = is_pointwise(conv);
            let columns = if pointwise {
                Columns { place: Place::Value(node.outputs[0]), matrix: input_matrix(conv, images.start) }
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
                ..Gemm::plain(0, 0, 0)
            };
            self.product(node, &product, &[dy, kernel, columns.place]);
            if !pointwise {
                let launch = col2im(&conv_images(conv, &images));
                self.push(node, launch, vec![columns.place, Place::Value(node.outputs[0])]);
            }
        }
        Ok(())
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

    fn matmul(
        &mut self,
        node: &Node,
        transpose_a: bool,
        transpose_b: bool,
        ending: Option<Ending>,
    ) -> Result<()> {
        let (a, b) = (self.value(node.inputs[0]), self.value(node.inputs[1]));
        let [a_rows, a_columns] = a.shape.matrix(&node.label)?;
        let [b_rows, b_columns] = b.shape.matrix(&node.label)?;
        let (m, k) = if transpose_a { (a_columns, a_rows) } else { (a_rows, a_columns) };
        let n = if transpose_b { b_rows } else { b_columns };
        let ending =
            ending.unwrap_or(Ending { epilogue: Epilogue::None, bias: None, output: node.outputs[0] });
        let product = Gemm {
            a: Matrix::rows(a_columns),
            b: Matrix::rows(b_columns),
            transpose_a,
            transpose_b,
            m_per_row: usize::from(a.batched && !transpose_a),
            k_per_row: usize::from(a.batched && transpose_a),
            epilogue: ending.epilogue,
            ..Gemm::plain(m, n, k)
        };
        let mut places =
            vec![Place::Value(node.inputs[0]), Place::Value(node.inputs[1]), Place::Value(ending.output)];
        places.extend(ending.bias.map(Place::Value));
        self.product(node, &product, &places);
        Ok(())
    }

    fn bias_grad(&mut self, node: &Node, dy: &Value) {
        let channels = dy.shape.last();
        let rows = dy.shape.elements() / channels;
        let rows_per_row = if dy.batched { dy.elements_per_row() / channels } else { 0 };
        let (source, result) = (Place::Value(node.inputs[0]), Place::Value(node.outputs[0]));
        // Enough slices to fill a GPU, each with enough rows to be worth an invocation.
        let slices = (rows / 64).clamp(1, 256);
        if slices == 1 {
            self.push(node, bias_grad(rows, rows_per_row, channels, 1), vec![source, result]);
            return;
        }
        let partial = self.workspace(slices * channels);
        self.push(node, bias_grad(rows, rows_per_row, channels, slices), vec![source, partial]);
        self.push(node, bias_grad(slices, 0, channels, 1), vec![partial, result]);
    }

    fn pool_images(&self, pool: &MaxPool2d) -> Images {
        Images {
            window: pool.window,
            channels: pool.channels,
            groups: 1,
            first: 0,
            count: self.graph.batch(),
        }
    }

    /// One dispatch for each run of neighbours in the arenas: a whole model is one.
    fn update(&mut self, node: &Node, rule: &UpdateRule, targets: &[ParameterId], layout: &Layout) {
        let mut spots: Vec<_> = targets.iter().map(|t| layout.spots()[t.0]).collect();
        spots.sort_by_key(|s| (s.chunk, s.first));
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for spot in spots {
            let end = spot.first + Layout::room(&spot);
            match runs.last_mut() {
                Some((chunk, run)) if *chunk == spot.chunk && run.end == spot.first => run.end = end,
                _ => runs.push((spot.chunk, spot.first..end)),
            }
        }
        for (chunk, run) in runs {
            let launch = match *rule {
                UpdateRule::Sgd { momentum: 0.0, weight_decay, .. } => sgd_update(run, weight_decay),
                UpdateRule::Sgd { momentum, nesterov, weight_decay } => {
                    sgd_momentum_update(run, &SgdMomentumUpdate { momentum, nesterov, weight_decay })
                }
                UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled } => {
                    adam_update(run, &AdamUpdate { beta1, beta2, epsilon, weight_decay, decoupled })
                }
            };
            let mut places =
                vec![Place::Mask(chunk), Place::Gradients(chunk), Place::Sums, Place::Weights(chunk)];
            places.extend((0..rule.slots().len()).map(|slot| Place::State(slot, chunk)));
            self.push(node, launch, places);
        }
    }
}

struct Columns {
    place: Place,
    matrix: Matrix,
}

/// Every patch is one pixel of the input, in order: the column matrix is the input itself.
fn is_pointwise(conv: &Conv2d) -> bool {
    let w = &conv.window;
    conv.groups == 1 && w.taps() == 1 && w.stride == [1, 1] && w.pad_begin == [0, 0] && w.input == w.output
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

fn output_matrix(conv: &Conv2d, first: usize) -> Matrix {
    let offset = first * conv.window.outputs() * conv.c_out;
    Matrix { stride: conv.c_out, group: conv.c_out_per_group(), offset }
}

fn extent(value: &Value) -> Extent {
    let per_row = if value.batched { value.elements_per_row() } else { 0 };
    Extent { elements: value.shape.elements(), per_row }
}
