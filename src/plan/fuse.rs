//! Which operations ride in the epilogue of the one before.

use super::alias::roots;
use super::fuse_pool::PoolFusion;
use crate::graph::{Conv2d, Graph, Node, Op, ParameterId, Pool2d, Role, ValueId};
use crate::kernels::Epilogue;

/// How one product ends: what is done to its results, what that reads, and which value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub epilogue: Epilogue,
    pub extra: Option<ValueId>,
    pub output: ValueId,
    /// Where each maximum of a 2x2 window was, if the results are pooled: `output` are the maxima.
    pub position: Option<ValueId>,
}

impl Ending {
    /// Stores the results as they are.
    pub fn plain(output: ValueId) -> Self {
        Ending { epilogue: Epilogue::None, extra: None, output, position: None }
    }
}

/// For each node, `Some` if it is a product with its ending; and whether it is part of another's ending.
pub(super) struct Fusion {
    pub endings: Vec<Option<Ending>>,
    pub absorbed: Vec<bool>,
}

/// `able`: whether a convolution goes in a way that can end with a pool.
pub(super) fn fuse(graph: &Graph, pools: &PoolFusion, able: impl Fn(&Conv2d) -> bool) -> Fusion {
    let nodes = graph.nodes();
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); graph.values().len()];
    for (index, node) in nodes.iter().enumerate() {
        for input in &node.inputs {
            users[input.0].push(index);
        }
    }
    let roots = roots(graph);
    // The node that alone uses a value, unless the caller may read the value.
    let only_user = |value: ValueId| match users[value.0].as_slice() {
        [one] if !graph.at(value).output => Some(*one),
        _ => None,
    };
    let mut fusion = Fusion { endings: vec![None; nodes.len()], absorbed: vec![false; nodes.len()] };
    for (index, node) in nodes.iter().enumerate() {
        if !matches!(node.op, Op::Conv2d(_) | Op::Conv2dGradInput(_) | Op::MatMul { .. }) {
            continue;
        }
        let mut ending = Ending::plain(node.outputs[0]);
        // The bias is read where the product runs, so nothing in between may write it.
        let settled = |add: usize| {
            let bias = roots[nodes[add].inputs[1].0];
            !nodes[index + 1..add].iter().any(|node| writes(graph, node, bias))
        };
        // Whether the result of the ReLU that a gradient goes back through is there when the product runs.
        let before = |user: usize| {
            let activation = roots[nodes[user].inputs[0].0];
            !nodes[index..user].iter().any(|node| writes(graph, node, activation))
        };
        let add = only_user(ending.output)
            .filter(|&u| nodes[u].op == Op::BiasAdd && nodes[u].inputs[0] == ending.output && settled(u));
        if let Some(add) = add {
            fusion.absorbed[add] = true;
            ending = Ending {
                epilogue: Epilogue::Bias { relu: false },
                extra: Some(nodes[add].inputs[1]),
                output: nodes[add].outputs[0],
                position: None,
            };
            if let Some(relu) = only_user(ending.output).filter(|&u| nodes[u].op == Op::Relu) {
                fusion.absorbed[relu] = true;
                ending.epilogue = Epilogue::Bias { relu: true };
                ending.output = nodes[relu].outputs[0];
            }
        }
        // Of gradients alone: a forward convolution may end with a pool, which knows of no such ending.
        let forward = matches!(node.op, Op::Conv2d(_));
        let back = only_user(ending.output).filter(|&u| nodes[u].op == Op::ReluGrad && !forward);
        if let Some(back) = back.filter(|&u| ending == Ending::plain(nodes[u].inputs[1]) && before(u)) {
            fusion.absorbed[back] = true;
            ending = Ending {
                epilogue: Epilogue::ReluGrad,
                extra: Some(nodes[back].inputs[0]),
                output: nodes[back].outputs[0],
                position: None,
            };
        }
        let pool = match node.op {
            Op::Conv2d(conv) if able(&conv) => {
                pool_after(graph, &users[ending.output.0], pools, &conv, &ending)
            }
            _ => None,
        };
        if let Some(pool) = pool {
            fusion.absorbed[pool] = true;
            let [pooled, position] = [0, 1].map(|i| nodes[pool].outputs[i]);
            ending = Ending { output: pooled, position: Some(position), ..ending };
        }
        fusion.endings[index] = Some(ending);
    }
    fusion
}

/// The max-pool over all that reads a convolution's results, but for gradients of ReLUs that its own gradient does; of windows
/// that tile the image in fours, and channels by fours.
fn pool_after(
    graph: &Graph,
    users: &[usize],
    pools: &PoolFusion,
    conv: &Conv2d,
    ending: &Ending,
) -> Option<usize> {
    let mut others = users.iter().copied().filter(|&user| !pools.absorbed[user]);
    let (Some(pool), None, false) = (others.next(), others.next(), graph.at(ending.output).output) else {
        return None;
    };
    let Op::MaxPool2d(Pool2d { window: w, .. }) = graph.nodes()[pool].op else { return None };
    let tiles = w.kernel == [2, 2]
        && w.stride == [2, 2]
        && w.dilation == [1, 1]
        && w.pad_begin == [0, 0]
        && w.input == conv.window.output
        && (0..2).all(|axis| w.input[axis] == 2 * w.output[axis]);
    (tiles && conv.c_out_per_group().is_multiple_of(4)).then_some(pool)
}

/// For each node, the gradient of a bias that sums what this product multiplies by: the two can be computed together, when the
/// later of them runs.
pub(super) fn fuse_bias_grads(graph: &Graph) -> Vec<Option<usize>> {
    let nodes = graph.nodes();
    let mut beside = vec![None; nodes.len()];
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.op == Op::BiasGrad) {
        let product = (index + 1..nodes.len()).find(|&later| {
            let kernel_grad = matches!(
                nodes[later].op,
                Op::Conv2dGradKernel(_) | Op::MatMul { transpose_a: true, transpose_b: false }
            );
            kernel_grad && nodes[later].inputs[1] == node.inputs[0]
        });
        // Gradients are read as inputs, or by operations on whole sets of them.
        let reads = |between: &Node| {
            between.inputs.contains(&node.outputs[0])
                || matches!(between.op, Op::Accumulate(_) | Op::Clip(..) | Op::Update(..))
        };
        let unread = |&product: &usize| !nodes[index + 1..product].iter().any(reads);
        if let Some(product) = product.filter(unread) {
            beside[product] = Some(index);
        }
    }
    beside
}

/// Whether an operation computes or updates the value.
fn writes(graph: &Graph, node: &Node, value: ValueId) -> bool {
    let is = |target: &ParameterId| matches!(graph.at(value).role, Role::Parameter(id) if id == *target);
    node.outputs.contains(&value)
        || match &node.op {
            Op::Update(_, targets) => targets.iter().any(|t| is(&t.parameter)),
            Op::UpdateStatistics(_, targets) => targets.iter().any(is),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::graph::{DType, UpdateRule};
    use crate::plan::fuse_pool::fuse_pools;
    use crate::shape::{Padding, Shape, Window};

    const PRODUCT: Op = Op::MatMul { transpose_a: false, transpose_b: false };

    /// Operands of a product, and its bias: a parameter with its gradient.
    fn start() -> Result<(Graph, [ValueId; 4])> {
        let mut graph = Graph::new(2)?;
        let x = graph.batch_input("x", &[3], DType::F32)?;
        let w = graph.input("w", Shape::new([3, 4])?, DType::F32);
        let bias = graph.parameter("bias", Shape::new([4])?)?;
        let gradient = graph.input("gradient", Shape::new([4])?, DType::F32);
        Ok((graph, [x, w, bias, gradient]))
    }

    #[test]
    fn a_bias_that_is_there_before_the_product_rides_along() {
        let (mut graph, [x, w, bias, _]) = start().unwrap();
        let made = graph.push_one(Op::Relu, &[bias], "made").unwrap();
        let y = graph.push_one(PRODUCT, &[x, w], "product").unwrap();
        let sum = graph.push_one(Op::BiasAdd, &[y, made], "add").unwrap();
        let last = graph.push_one(Op::Relu, &[sum], "relu").unwrap();
        let fusion = fuse(&graph, &fuse_pools(&graph), |_| true);
        assert_eq!(fusion.absorbed, [false, false, true, true]);
        assert_eq!(fusion.endings[1].map(|e| (e.extra, e.output)), Some((Some(made), last)));
    }

    #[test]
    fn a_bias_that_is_written_after_the_product_stays_apart() {
        // Computed in between, also under another shape.
        for reshaped in [false, true] {
            let (mut graph, [x, w, bias, _]) = start().unwrap();
            let y = graph.push_one(PRODUCT, &[x, w], "product").unwrap();
            let mut made = graph.push_one(Op::Relu, &[bias], "made").unwrap();
            if reshaped {
                made = graph.push_one(Op::Reshape(vec![4]), &[made], "reshape").unwrap();
            }
            graph.push_one(Op::BiasAdd, &[y, made], "add").unwrap();
            assert!(
                !fuse(&graph, &fuse_pools(&graph), |_| true).absorbed.contains(&true),
                "reshaped: {reshaped}"
            );
        }
        // A parameter that is updated in between.
        let (mut graph, [x, w, bias, gradient]) = start().unwrap();
        let Role::Parameter(id) = graph.at(bias).role else { unreachable!() };
        let y = graph.push_one(PRODUCT, &[x, w], "product").unwrap();
        let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        graph.push(Op::Update(rule, vec![id.into()]), &[gradient], "update").unwrap();
        graph.push_one(Op::BiasAdd, &[y, bias], "add").unwrap();
        assert!(!fuse(&graph, &fuse_pools(&graph), |_| true).absorbed.contains(&true));
    }

    /// A convolution to 4x6 pixels of `channels`, a ReLU, and a pool of 2x2 that moves by `stride`.
    fn pooled(channels: usize, stride: usize) -> (Graph, ValueId) {
        let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
        let conv = Conv2d::new([4, 6, 3], channels, window, 1, "conv").unwrap();
        let pool = Window { stride: [stride; 2], padding: Padding::Valid, ..Window::new([2, 2]) };
        let pool = Pool2d { window: pool.on([4, 6], "pool").unwrap(), channels };
        let mut graph = Graph::new(2).unwrap();
        let x = graph.batch_input("x", &[4, 6, 3], DType::F32).unwrap();
        let kernel = graph.input("kernel", Shape::new(conv.kernel_shape()).unwrap(), DType::F32);
        let bias = graph.input("bias", Shape::new([channels]).unwrap(), DType::F32);
        let y = graph.push_one(Op::Conv2d(conv), &[x, kernel], "conv").unwrap();
        let y = graph.push_one(Op::BiasAdd, &[y, bias], "bias").unwrap();
        let y = graph.push_one(Op::Relu, &[y], "relu").unwrap();
        let made = graph.push(Op::MaxPool2d(pool), &[y], "pool").unwrap();
        let [h, w] = pool.window.output;
        let dy = graph.batch_input("dy", &[h, w, channels], DType::F32).unwrap();
        let back = graph.push_one(Op::MaxPool2dGrad(pool), &[made[1], dy], "pool grad").unwrap();
        graph.push_one(Op::ReluGrad, &[y, back], "relu grad").unwrap();
        (graph, y)
    }

    #[test]
    fn a_relus_gradient_of_forward_results_stays_apart() {
        let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
        let conv = Conv2d::new([4, 4, 4], 4, window, 1, "conv").unwrap();
        let mut graph = Graph::new(2).unwrap();
        let x = graph.batch_input("x", &[4, 4, 4], DType::F32).unwrap();
        let kernel = graph.input("kernel", Shape::new(conv.kernel_shape()).unwrap(), DType::F32);
        let y = graph.push_one(Op::Conv2d(conv), &[x, kernel], "conv").unwrap();
        graph.push_one(Op::ReluGrad, &[x, y], "relu grad").unwrap();
        assert!(!fuse(&graph, &fuse_pools(&graph), |_| true).absorbed.contains(&true));
    }

    #[test]
    fn a_pool_that_alone_reads_the_results_rides_along() {
        let (graph, _) = pooled(4, 2);
        let fusion = fuse(&graph, &fuse_pools(&graph), |_| true);
        assert_eq!(fusion.absorbed, [false, true, true, true, false, false]);
        let pool = &graph.nodes()[3];
        let ending = fusion.endings[0].unwrap();
        assert_eq!((ending.output, ending.position), (pool.outputs[0], Some(pool.outputs[1])));
        assert_eq!(ending.epilogue, Epilogue::Bias { relu: true });
    }

    #[test]
    fn a_pool_of_what_is_read_elsewhere_or_does_not_come_in_fours_stays_apart() {
        let mut read = pooled(4, 2);
        read.0.mark_output(read.1).unwrap();
        let mut twice = pooled(4, 2);
        twice.0.push_one(Op::Relu, &[twice.1], "another").unwrap();
        for (graph, _) in [read, twice, pooled(3, 2), pooled(4, 1)] {
            let fusion = fuse(&graph, &fuse_pools(&graph), |_| true);
            assert_eq!((fusion.absorbed[3], fusion.endings[0].unwrap().position), (false, None));
        }
        let (graph, _) = pooled(4, 2);
        let unable = fuse(&graph, &fuse_pools(&graph), |_| false);
        assert_eq!((unable.absorbed[3], unable.endings[0].unwrap().position), (false, None));
    }

    #[test]
    fn a_bias_gradient_rides_with_its_kernels_unless_something_reads_it_before() {
        let sums = Op::MatMul { transpose_a: true, transpose_b: false };
        for (read, other, expected) in
            [(false, false, vec![None, Some(0)]), (true, false, vec![None; 3]), (false, true, vec![None; 2])]
        {
            let mut graph = Graph::new(2).unwrap();
            let x = graph.batch_input("x", &[3], DType::F32).unwrap();
            let [dy, another] =
                ["dy", "another"].map(|name| graph.batch_input(name, &[4], DType::F32).unwrap());
            let bias = graph.push_one(Op::BiasGrad, &[dy], "bias").unwrap();
            if read {
                graph.push_one(Op::Relu, &[bias], "reader").unwrap();
            }
            graph.push_one(sums.clone(), &[x, if other { another } else { dy }], "kernel").unwrap();
            assert_eq!(fuse_bias_grads(&graph), expected, "read {read}, another {other}");
        }
    }
}
