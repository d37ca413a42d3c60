//! From operations to kernels: a pure function of the graph, the layout and the adapter's report.

mod activation;
mod algorithm;
mod conv;
mod depthwise;
mod linear;
mod loss;
mod norm;
mod padded;
mod partial;
mod pool;
mod savings;
mod strided;
mod update;
mod winograd;

use super::Layout;
use super::cost::CostModel;
use super::fuse::{Ending, fuse, fuse_bias_grads};
use super::fuse_pool::{PoolEnding, fuse_pools};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, Value, ValueId};
use crate::kernels::{
    Epilogue, Extent, Gemm, GemmFamily, Images, Launch, MAX_ITERATIONS, MAX_TERMS, Operand, add, avg_pool2d,
    avg_pool2d_grad, bias_add, dropout, gemm_launch, max_pool2d, max_pool2d_grad, mean_grad, mul, relu,
    relu_grad, scale, split_k_sum, splits,
};
use crate::shape::WindowGeometry;
pub use algorithm::Algorithm;
pub(super) use algorithm::Conditions;
use algorithm::Pass;
pub use savings::GradientStrategy;
use savings::Way;
pub(super) use savings::{Savings, savings};
pub use winograd::Winograd;

/// What a step binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A value, wherever it lives.
    Value(ValueId),
    /// Memory that only a few steps use.
    Workspace(usize),
    /// Numbers written when the plan is compiled.
    List(usize),
    /// A buffer of the weights' arena.
    Weights(usize),
    /// A buffer of the gradients' arena.
    Gradients(usize),
    /// A buffer of the arena of accumulated gradients.
    Accumulated(usize),
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
    /// By which algorithm, of a convolution or its gradients.
    pub algorithm: Option<Algorithm>,
    pub launch: Launch,
    pub places: Vec<Place>,
}

/// The whole run.
#[derive(Debug, Default)]
pub(super) struct Lowered {
    pub steps: Vec<Step>,
    /// Bytes of each workspace.
    pub workspaces: Vec<u64>,
    /// What each list holds.
    pub lists: Vec<Vec<u32>>,
}

/// What the adapter and the options allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub family: GemmFamily,
    pub max_binding: u64,
    pub workspace_bytes: u64,
    /// Whether convolutions go by columns in memory even where patches can be gathered.
    pub explicit: bool,
    pub winograd: Winograd,
    pub cost: CostModel,
}

impl Limits {
    pub fn conditions(&self, batch: usize) -> Conditions {
        Conditions {
            batch,
            family: self.family,
            explicit: self.explicit,
            winograd: self.winograd,
            max_binding: self.max_binding,
            cost: self.cost,
        }
    }
}

/// Workspaces stay below this where they can: a column matrix beyond the caches gains nothing.
pub(super) const WORKSPACE_BYTES: u64 = 64 << 20;

pub(super) fn lower(graph: &Graph, layout: &Layout, limits: Limits, savings: &Savings) -> Result<Lowered> {
    let nodes = graph.nodes();
    let mut lowering = Lowering::new(graph, limits, savings, layout);
    let pools = fuse_pools(graph);
    let fusion = fuse(graph, &pools, |conv| lowering.can_pool(conv));
    let beside = lowering.bias_grads();
    for index in 0..nodes.len() {
        // Waits for the gradient of its kernel.
        let waits = beside.iter().zip(&savings.needed).any(|(&bias, &needed)| needed && bias == Some(index));
        if fusion.absorbed[index] || pools.absorbed[index] || !savings.needed[index] || waits {
            continue;
        }
        let node = &nodes[index];
        lowering.beside = beside[index].filter(|&bias| savings.needed[bias]);
        if let Some(ending) = pools.endings[index] {
            lowering.pool_grad_ending(node, ending);
        } else if !lowering.partial(node, &savings.ways[index])? {
            lowering.node(node, fusion.endings[index])?;
        }
        // No product took it along.
        if let Some(bias) = lowering.beside.take() {
            lowering.node(&nodes[bias], None)?;
        }
    }
    let long = lowering.out.steps.iter().find(|s| s.launch.iterations > MAX_ITERATIONS);
    match long {
        None => Ok(lowering.out),
        Some(Step { label, launch, .. }) => Err(Error::LimitExceeded {
            what: format!("{label}: rounds of the loops in {}", launch.kernel.name),
            needed: launch.iterations as u64,
            available: MAX_ITERATIONS as u64,
        }),
    }
}

struct Lowering<'a> {
    graph: &'a Graph,
    limits: Limits,
    savings: &'a Savings,
    layout: &'a Layout,
    /// The node of a bias's gradient that the product of its kernel's may compute beside.
    beside: Option<usize>,
    /// By value: whether it is made of gradients.
    gradients: Vec<bool>,
    out: Lowered,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, limits: Limits, savings: &'a Savings, layout: &'a Layout) -> Self {
        Lowering {
            graph,
            limits,
            savings,
            layout,
            beside: None,
            gradients: gradients(graph),
            out: Lowered::default(),
        }
    }
}

impl Lowering<'_> {
    fn push(&mut self, node: &Node, launch: Launch, places: Vec<Place>) {
        let algorithm = self.algorithm(node);
        self.out.steps.push(Step { label: node.label.clone(), algorithm, launch, places });
    }

    fn conditions(&self) -> Conditions {
        self.limits.conditions(self.graph.batch())
    }

    fn algorithm(&self, node: &Node) -> Option<Algorithm> {
        let index = self.graph.nodes().iter().position(|other| std::ptr::eq(other, node));
        match index.map(|index| &self.savings.ways[index]) {
            Some(Way::Columns { .. }) => return Some(Algorithm::Columns),
            Some(Way::Rows(_)) => return Some(Algorithm::Rows),
            Some(Way::Elements(_)) => return Some(Algorithm::Elements),
            Some(Way::Dense) | None => {}
        }
        let (conv, pass) = match &node.op {
            Op::Conv2d(conv) => (conv, Pass::Forward),
            Op::Conv2dGradInput(conv) => (conv, Pass::GradInput),
            Op::Conv2dGradKernel(conv) => (conv, Pass::GradKernel),
            _ => return None,
        };
        Some(algorithm::choose(conv, pass, &self.conditions()))
    }

    /// `places`: the operands and the result; then, if the epilogue reads something, that; then, if the result is pooled,
    /// the positions.
    fn product(&mut self, node: &Node, product: &Gemm, places: &[Place]) {
        let bias = self
            .beside
            .filter(|&bias| self.carries(product, places[1], bias))
            .and_then(|_| self.beside.take());
        let gradient = self.gradient_operand(node, places[1]);
        let product = &Gemm { bias_grad: bias.is_some(), gradient, ..*product };
        let split = Gemm { splits: splits(product, self.limits.family), ..*product };
        let elements = split.splits * split.m * split.n * split.groups;
        if split.splits > 1 && 4 * elements as u64 <= self.limits.max_binding {
            let sums = self.workspace(elements);
            let launch = gemm_launch(&split, self.limits.family);
            let mut bound = vec![places[0], places[1], sums, places[1]];
            let mut summed = vec![sums, places[2]];
            if let Some(bias) = bias {
                let columns = self.workspace(split.splits * split.n * split.groups);
                bound.push(columns);
                summed.extend([columns, Place::Value(self.graph.nodes()[bias].outputs[0])]);
            }
            self.push(node, launch, bound);
            self.push(node, split_k_sum(&split), summed);
            return;
        }
        for part in product.parts() {
            // The epilogue belongs to the last part alone; what is bound without one is not read.
            let extra = if part.epilogue == Epilogue::None { places[1] } else { places[3] };
            let mut bound = vec![places[0], places[1], places[2], extra];
            bound.extend(places.get(4));
            bound.extend(bias.map(|bias| Place::Value(self.graph.nodes()[bias].outputs[0])));
            self.push(node, gemm_launch(&part, self.limits.family), bound);
        }
    }

    /// Which operand of a node's product holds gradients; `b` is its right one.
    fn gradient_operand(&self, node: &Node, b: Place) -> Option<Operand> {
        let of = |input: usize| self.gradients[node.inputs[input].0];
        // Of a kernel's gradient in part, the images and their gradients may have changed places.
        let swapped = b == Place::Value(node.inputs[0]);
        match node.op {
            // Forward, a transposed convolution.
            Op::Conv2dGradInput(_) => of(0).then_some(Operand::A),
            // Of a transposed convolution, whose operands are exchanged.
            Op::Conv2dGradKernel(_) if of(0) && !of(1) => Some(if swapped { Operand::B } else { Operand::A }),
            Op::Conv2dGradKernel(_) => Some(if swapped { Operand::A } else { Operand::B }),
            Op::MatMul { .. } if of(1) => Some(if swapped { Operand::A } else { Operand::B }),
            Op::MatMul { .. } if of(0) => Some(Operand::A),
            _ => None,
        }
    }

    /// Which gradients of biases may be computed beside those of their kernels: on processors, where a dispatch costs more than
    /// the sum.
    fn bias_grads(&self) -> Vec<Option<usize>> {
        match self.limits.family {
            GemmFamily::Subgroup { .. } => fuse_bias_grads(self.graph),
            _ => vec![None; self.graph.nodes().len()],
        }
    }

    /// Whether the product goes over all of what the bias's gradient sums, at once.
    fn carries(&self, product: &Gemm, b: Place, bias: usize) -> bool {
        let dy = self.graph.nodes()[bias].inputs[0];
        let whole = product.k * product.n * product.groups == self.value(dy).shape.elements();
        b == Place::Value(dy)
            && product.transpose_a
            && !product.transpose_b
            && product.k <= MAX_TERMS
            && whole
    }

    fn workspace(&mut self, elements: usize) -> Place {
        self.out.workspaces.push(4 * elements as u64);
        Place::Workspace(self.out.workspaces.len() - 1)
    }

    fn list(&mut self, words: Vec<u32>) -> Place {
        self.out.lists.push(words);
        Place::List(self.out.lists.len() - 1)
    }

    fn value(&self, id: ValueId) -> &Value {
        self.graph.at(id)
    }

    fn node(&mut self, node: &Node, ending: Option<Ending>) -> Result<()> {
        let inputs: Vec<Place> = node.inputs.iter().map(|&i| Place::Value(i)).collect();
        let all = |results: &[ValueId]| {
            inputs.iter().copied().chain(results.iter().map(|&r| Place::Value(r))).collect::<Vec<_>>()
        };
        let first = node.inputs.first().map(|&i| self.value(i));
        match (&node.op, first) {
            (Op::Conv2d(conv), _) => return self.conv2d(node, conv, ending),
            (Op::Conv2dGradInput(conv), _) => return self.conv2d_grad_input(node, conv, ending),
            (Op::Conv2dGradKernel(conv), _) => return self.conv2d_grad_kernel(node, conv),
            (Op::MatMul { transpose_a, transpose_b }, _) => {
                return self.matmul(node, [*transpose_a, *transpose_b], ending);
            }
            (Op::BiasAdd, Some(x)) => {
                let launch = bias_add(extent(x), x.shape.last());
                self.push(node, launch, all(&node.outputs));
            }
            (Op::BiasGrad, Some(dy)) => {
                let dy = dy.clone();
                self.bias_grad(node, &dy);
            }
            (Op::Add, Some(a)) => {
                let launch = add(extent(a));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::Mul, Some(a)) => {
                let launch = mul(extent(a));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::Scale(factor), Some(x)) => {
                let launch = scale(extent(x), *factor);
                self.push(node, launch, all(&node.outputs));
            }
            // Of the operand only the number of elements matters.
            (Op::MeanGrad, Some(x)) => {
                let launch = mean_grad(extent(x));
                self.push(node, launch, vec![Place::Value(node.outputs[0])]);
            }
            (Op::Activation(_) | Op::ActivationGrad(_) | Op::Softmax | Op::SoftmaxGrad, _) => {
                return self.activation(node);
            }
            (Op::Relu, Some(x)) => {
                let launch = relu(extent(x));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::ReluGrad, Some(y)) => {
                let launch = relu_grad(extent(y));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::Dropout(of), Some(x)) => {
                let launch = dropout(extent(x), *of);
                self.push(node, launch, all(&node.outputs));
            }
            (Op::MaxPool2d(pool), _) => {
                let launch = max_pool2d(&self.pool_images(pool.window, pool.channels));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::MaxPool2dGrad(pool), _) => {
                let launch = max_pool2d_grad(&self.pool_images(pool.window, pool.channels), false);
                let [position, dy] = [inputs[0], inputs[1]];
                self.push(node, launch, vec![position, dy, dy, Place::Value(node.outputs[0])]);
            }
            (Op::AvgPool2d(pool), _) => {
                let launch = avg_pool2d(&self.pool_images(pool.window, pool.channels));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::AvgPool2dGrad(pool), _) => {
                let launch = avg_pool2d_grad(&self.pool_images(pool.window, pool.channels));
                self.push(node, launch, all(&node.outputs));
            }
            (Op::GlobalAvgPool, Some(x)) => {
                let x = x.clone();
                self.global_pool(node, &x, all(&node.outputs));
            }
            (Op::GlobalAvgPoolGrad(_), _) => {
                let dx = self.value(node.outputs[0]).clone();
                self.global_pool(node, &dx, all(&node.outputs));
            }
            (
                Op::SoftmaxCrossEntropy { .. }
                | Op::SoftmaxCrossEntropyGrad { .. }
                | Op::MeanSquaredError
                | Op::MeanSquaredErrorGrad
                | Op::Metrics,
                _,
            ) => return self.loss(node),
            (
                Op::BatchStatistics { .. }
                | Op::BatchNorm { .. }
                | Op::BatchNormGradScale
                | Op::BatchNormGradInput,
                Some(x),
            ) => {
                let x = x.clone();
                self.norm(node, &x, all(&node.outputs));
            }
            (Op::UpdateStatistics(rule, targets), _) => {
                self.update_statistics(node, rule, targets);
            }
            // The same bytes under another shape.
            (Op::Reshape(_), _) => {}
            (Op::Accumulate(targets), _) => self.accumulate(node, targets),
            (Op::Clip(clip, targets), _) => self.clip(node, *clip, targets),
            (Op::Update(rule, targets), _) => self.update(node, rule, targets),
            (op, None) => return Err(Error::argument(&node.label, "operands", op.name())),
        }
        Ok(())
    }

    /// The gradient of the ReLU before an operation, if it is to end the input's gradient and no kernel did it.
    fn relu_grad_after(&mut self, node: &Node, ending: Ending) {
        if let (Epilogue::ReluGrad, Some(activation)) = (ending.epilogue, ending.extra) {
            let launch = relu_grad(extent(self.value(node.outputs[0])));
            let places = [activation, node.outputs[0], ending.output];
            self.push(node, launch, places.map(Place::Value).to_vec());
        }
    }

    fn pool_images(&self, window: WindowGeometry, channels: usize) -> Images {
        Images { window, channels, groups: 1, first: 0, count: self.graph.batch() }
    }
}

/// By value: whether it is a gradient of a loss, or made from one.
fn gradients(graph: &Graph) -> Vec<bool> {
    let mut gradients = vec![false; graph.values().len()];
    for node in graph.nodes() {
        let begins =
            matches!(node.op, Op::SoftmaxCrossEntropyGrad { .. } | Op::MeanSquaredErrorGrad | Op::MeanGrad);
        if begins || node.inputs.iter().any(|input| gradients[input.0]) {
            node.outputs.iter().for_each(|output| gradients[output.0] = true);
        }
    }
    gradients
}

fn extent(value: &Value) -> Extent {
    let per_row = if value.batched { value.elements_per_row() } else { 0 };
    Extent { elements: value.shape.elements(), per_row }
}
