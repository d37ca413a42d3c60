//! Which operations ride in the epilogue of the one before.

use super::alias::roots;
use crate::graph::{Graph, Node, Op, ParameterId, Role, ValueId};
use crate::kernels::Epilogue;

/// How one product ends: what is done to its results, what that reads, and which value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub epilogue: Epilogue,
    pub extra: Option<ValueId>,
    pub output: ValueId,
}

impl Ending {
    /// Stores the results as they are.
    pub fn plain(output: ValueId) -> Self {
        Ending { epilogue: Epilogue::None, extra: None, output }
    }
}

/// For each node, `Some` if it is a product with its ending; and whether it is part of another's ending.
pub(super) struct Fusion {
    pub endings: Vec<Option<Ending>>,
    pub absorbed: Vec<bool>,
}

pub(super) fn fuse(graph: &Graph) -> Fusion {
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
            };
            if let Some(relu) = only_user(ending.output).filter(|&u| nodes[u].op == Op::Relu) {
                fusion.absorbed[relu] = true;
                ending.epilogue = Epilogue::Bias { relu: true };
                ending.output = nodes[relu].outputs[0];
            }
        }
        let back = only_user(ending.output).filter(|&u| nodes[u].op == Op::ReluGrad);
        if let Some(back) = back.filter(|&u| ending == Ending::plain(nodes[u].inputs[1]) && before(u)) {
            fusion.absorbed[back] = true;
            ending = Ending {
                epilogue: Epilogue::ReluGrad,
                extra: Some(nodes[back].inputs[0]),
                output: nodes[back].outputs[0],
            };
        }
        fusion.endings[index] = Some(ending);
    }
    fusion
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
        if let Some(product) = product.filter(|&product| !nodes[index + 1..product].iter().any(reads)) {
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
    use crate::shape::Shape;

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
        let fusion = fuse(&graph);
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
            assert!(!fuse(&graph).absorbed.contains(&true), "reshaped: {reshaped}");
        }
        // A parameter that is updated in between.
        let (mut graph, [x, w, bias, gradient]) = start().unwrap();
        let Role::Parameter(id) = graph.at(bias).role else { unreachable!() };
        let y = graph.push_one(PRODUCT, &[x, w], "product").unwrap();
        let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        graph.push(Op::Update(rule, vec![id.into()]), &[gradient], "update").unwrap();
        graph.push_one(Op::BiasAdd, &[y, bias], "add").unwrap();
        assert!(!fuse(&graph).absorbed.contains(&true));
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
