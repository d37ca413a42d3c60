//! Fuses bias, ReLU, the gradient of a ReLU and max-pooling into the epilogue of the GEMM or convolution
//! before them.

use crate::compiler::conv::{fuses_pool, grad_input_has_epilogue};
use crate::compiler::ir::{FusedEpilogue, Operation, roots};
use crate::compiler::options::Settings;
use crate::graph::{Conv2d, Graph, Node, Op, ParameterId, Pool2d, Role, ValueId};
use crate::kernels::Epilogue;

/// Fuses the operations after each GEMM or convolution into its epilogue, as far as its kernel supports them.
pub(crate) fn fuse_epilogues(
    graph: &Graph,
    mut operations: Vec<Operation>,
    settings: &Settings,
) -> Vec<Operation> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); graph.values().len()];
    for (index, operation) in operations.iter().enumerate() {
        for input in &operation.node.inputs {
            users[input.0].push(index);
        }
    }
    let chains = Chains { graph, operations: &operations, users, roots: roots(graph) };
    let mut fused = vec![false; operations.len()];
    let mut epilogues = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        if matches!(operation.node.op, Op::Conv2d(_) | Op::Conv2dGradInput(_) | Op::MatMul { .. }) {
            let (epilogue, members) = chains.from(index, settings);
            members.into_iter().for_each(|member| fused[member] = true);
            epilogues.push((index, epilogue));
        }
    }
    for (index, epilogue) in epilogues {
        operations[index].epilogue = Some(epilogue);
    }
    let mut fused = fused.into_iter();
    operations.retain(|_| !fused.next().unwrap_or(false));
    operations
}

/// Finds the operations after a GEMM or a convolution that its epilogue can compute.
struct Chains<'a> {
    graph: &'a Graph,
    operations: &'a [Operation],
    /// For each value, the indices of the operations that read it.
    users: Vec<Vec<usize>>,
    roots: Vec<ValueId>,
}

impl Chains<'_> {
    /// Returns the epilogue of the operation at `index`, and the operations that are fused into it.
    fn from(&self, index: usize, settings: &Settings) -> (FusedEpilogue, Vec<usize>) {
        let node = &self.operations[index].node;
        let mut epilogue = FusedEpilogue::none(node.outputs[0]);
        let mut members = Vec::new();
        if let Op::Conv2dGradInput(conv) = node.op
            && !grad_input_has_epilogue(&conv, settings)
        {
            return (epilogue, members);
        }
        // The fused epilogue reads the bias when the GEMM runs, so no operation between the GEMM and the bias
        // addition may write the bias.
        let add = self.only_user(epilogue.output).filter(|&add| {
            let add_node = &self.operations[add].node;
            add_node.op == Op::BiasAdd
                && add_node.inputs[0] == epilogue.output
                && !self.written_between(index, add, add_node.inputs[1], false)
        });
        if let Some(add) = add {
            members.push(add);
            let node = &self.operations[add].node;
            epilogue = FusedEpilogue {
                kind: Epilogue::Bias { relu: false },
                operand: Some(node.inputs[1]),
                output: node.outputs[0],
                positions: None,
            };
            let relu = self.only_user(epilogue.output);
            if let Some(relu) = relu.filter(|&user| self.operations[user].node.op == Op::Relu) {
                members.push(relu);
                epilogue.kind = Epilogue::Bias { relu: true };
                epilogue.output = self.operations[relu].node.outputs[0];
            }
        }
        // A ReLU gradient is not fused after a forward convolution, whose epilogue may contain a max-pool: no
        // kernel combines the two.
        if members.is_empty()
            && !matches!(node.op, Op::Conv2d(_))
            && let Some(relu_grad) = self.only_user(epilogue.output)
        {
            let user = &self.operations[relu_grad].node;
            if user.op == Op::ReluGrad
                && user.inputs[1] == epilogue.output
                && !self.written_between(index, relu_grad, user.inputs[0], true)
            {
                members.push(relu_grad);
                epilogue = FusedEpilogue {
                    kind: Epilogue::ReluGrad,
                    operand: Some(user.inputs[0]),
                    output: user.outputs[0],
                    positions: None,
                };
            }
        }
        if let Op::Conv2d(conv) = node.op
            && fuses_pool(&conv, settings)
            && let Some(pool) = self.pool_after(&conv, epilogue.output)
        {
            members.push(pool);
            let [pooled, positions] = [0, 1].map(|i| self.operations[pool].node.outputs[i]);
            epilogue = FusedEpilogue { output: pooled, positions: Some(positions), ..epilogue };
        }
        (epilogue, members)
    }

    /// Returns the only operation that reads a value; `None` if there are several, or if the value is an
    /// output of the graph.
    fn only_user(&self, value: ValueId) -> Option<usize> {
        match self.users[value.0].as_slice() {
            [one] if !self.graph.at(value).output => Some(*one),
            _ => None,
        }
    }

    /// Whether an operation after `first` and before `last` writes a value. If `inclusive`, the operation
    /// `first` is checked too.
    fn written_between(&self, first: usize, last: usize, value: ValueId, inclusive: bool) -> bool {
        let value = self.roots[value.0];
        let [first, last] = [first, last].map(|operation| self.operations[operation].index);
        let first = if inclusive { first } else { first + 1 };
        self.graph.nodes()[first..last].iter().any(|node| writes(self.graph, node, value))
    }

    /// Returns the index of the max-pool to fuse: it is the only reader of the convolution's results, its 2x2
    /// windows cover the image exactly without overlap, and the channels per group are a multiple of 4.
    fn pool_after(&self, conv: &Conv2d, results: ValueId) -> Option<usize> {
        let pool = self.only_user(results)?;
        let Op::MaxPool2d(Pool2d { window: w, .. }) = self.operations[pool].node.op else { return None };
        let tiles = w.kernel == [2, 2]
            && w.stride == [2, 2]
            && w.dilation == [1, 1]
            && w.pad_begin == [0, 0]
            && w.input == conv.window.output
            && (0..2).all(|axis| w.input[axis] == 2 * w.output[axis]);
        (tiles && conv.c_out_per_group().is_multiple_of(4)).then_some(pool)
    }
}

/// Whether a node computes or updates a value.
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
    use crate::compiler::ir::operations;
    use crate::compiler::options::Winograd;
    use crate::compiler::passes::fuse_relu_grad_into_pool_grad;
    use crate::error::Result;
    use crate::graph::{DType, UpdateRule};
    use crate::shape::{Padding, Shape, Window};

    const MATMUL: Op = Op::MatMul { transpose_a: false, transpose_b: false };

    fn fused_with(graph: &Graph, settings: &Settings) -> Vec<Operation> {
        fuse_epilogues(graph, fuse_relu_grad_into_pool_grad(graph, operations(graph)), settings)
    }

    fn fused(graph: &Graph) -> Vec<Operation> {
        fused_with(graph, &Settings { winograd: Winograd::Never, ..Settings::SOFTWARE })
    }

    fn indices(operations: &[Operation]) -> Vec<usize> {
        operations.iter().map(|operation| operation.index).collect()
    }

    /// Creates a graph with the values `x`, `w`, `bias` (a parameter) and `gradient` (the gradient of the
    /// bias), and without operations.
    fn start() -> Result<(Graph, [ValueId; 4])> {
        let mut graph = Graph::new(2)?;
        let x = graph.batch_input("x", &[3], DType::F32)?;
        let w = graph.input("w", Shape::new([3, 4])?, DType::F32);
        let bias = graph.parameter("bias", Shape::new([4])?)?;
        let gradient = graph.input("gradient", Shape::new([4])?, DType::F32);
        Ok((graph, [x, w, bias, gradient]))
    }

    #[test]
    fn bias_and_relu_fuse_if_the_bias_exists_before_the_gemm() {
        let (mut graph, [x, w, bias, _]) = start().unwrap();
        let computed = graph.push_one(Op::Relu, &[bias], "computed bias").unwrap();
        let y = graph.push_one(MATMUL, &[x, w], "gemm").unwrap();
        let sum = graph.push_one(Op::BiasAdd, &[y, computed], "add").unwrap();
        let last = graph.push_one(Op::Relu, &[sum], "relu").unwrap();
        let operations = fused(&graph);
        assert_eq!(indices(&operations), [0, 1]);
        let epilogue = operations[1].epilogue();
        assert_eq!((epilogue.operand, epilogue.output), (Some(computed), last));
    }

    #[test]
    fn bias_written_after_the_gemm_is_not_fused() {
        // Case 1: the bias is computed after the GEMM, directly or through a reshape.
        for reshaped in [false, true] {
            let (mut graph, [x, w, bias, _]) = start().unwrap();
            let y = graph.push_one(MATMUL, &[x, w], "gemm").unwrap();
            let mut computed = graph.push_one(Op::Relu, &[bias], "computed bias").unwrap();
            if reshaped {
                computed = graph.push_one(Op::Reshape(vec![4]), &[computed], "reshape").unwrap();
            }
            graph.push_one(Op::BiasAdd, &[y, computed], "add").unwrap();
            assert_eq!(fused(&graph).len(), graph.nodes().len(), "reshaped: {reshaped}");
        }
        // Case 2: the bias is a parameter that is updated between the GEMM and the bias addition.
        let (mut graph, [x, w, bias, gradient]) = start().unwrap();
        let Role::Parameter(id) = graph.at(bias).role else { unreachable!() };
        let y = graph.push_one(MATMUL, &[x, w], "gemm").unwrap();
        let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        graph.push(Op::Update(rule, vec![id.into()]), &[gradient], "update").unwrap();
        graph.push_one(Op::BiasAdd, &[y, bias], "add").unwrap();
        assert_eq!(fused(&graph).len(), graph.nodes().len());
    }

    /// Creates a graph of a convolution with 4x6 output pixels and `channels` output channels, a bias, a ReLU
    /// and a 2x2 max-pool of stride `stride`, followed by the gradients of the pool and the ReLU. Returns the
    /// graph and the result of the ReLU.
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
        let pooled = graph.push(Op::MaxPool2d(pool), &[y], "pool").unwrap();
        let [h, w] = pool.window.output;
        let dy = graph.batch_input("dy", &[h, w, channels], DType::F32).unwrap();
        let pool_grad = graph.push_one(Op::MaxPool2dGrad(pool), &[pooled[1], dy], "pool grad").unwrap();
        graph.push_one(Op::ReluGrad, &[y, pool_grad], "relu grad").unwrap();
        (graph, y)
    }

    #[test]
    fn relu_gradient_does_not_fuse_into_a_forward_convolution() {
        let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
        let conv = Conv2d::new([4, 4, 4], 4, window, 1, "conv").unwrap();
        let mut graph = Graph::new(2).unwrap();
        let x = graph.batch_input("x", &[4, 4, 4], DType::F32).unwrap();
        let kernel = graph.input("kernel", Shape::new(conv.kernel_shape()).unwrap(), DType::F32);
        let y = graph.push_one(Op::Conv2d(conv), &[x, kernel], "conv").unwrap();
        graph.push_one(Op::ReluGrad, &[x, y], "relu grad").unwrap();
        assert_eq!(fused(&graph).len(), graph.nodes().len());
    }

    #[test]
    fn bias_of_a_transposed_convolution_fuses_unless_its_algorithm_has_no_epilogue() {
        // With 32 channels, the bias is fused (one operation). 30 channels are not a multiple of 4, so the
        // transposed convolution uses im2col, which has no epilogue (two operations).
        for (channels, operations) in [(32, 1), (30, 2)] {
            let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
            let conv = Conv2d::new([4, 4, 4], channels, window, 1, "conv").unwrap();
            let mut graph = Graph::new(2).unwrap();
            let x = graph.batch_input("x", &[4, 4, channels], DType::F32).unwrap();
            let kernel = graph.input("kernel", Shape::new(conv.kernel_shape()).unwrap(), DType::F32);
            let bias = graph.input("bias", Shape::new([4]).unwrap(), DType::F32);
            let y = graph.push_one(Op::Conv2dGradInput(conv), &[x, kernel], "transposed").unwrap();
            graph.push_one(Op::BiasAdd, &[y, bias], "bias").unwrap();
            assert_eq!(fused(&graph).len(), operations, "{channels} channels");
        }
    }

    #[test]
    fn pool_that_is_the_only_reader_fuses_into_the_convolution() {
        let (graph, _) = pooled(4, 2);
        let operations = fused(&graph);
        assert_eq!(indices(&operations), [0, 4], "the convolution and the pool's gradient, with their ReLUs");
        let pool = &graph.nodes()[3];
        let epilogue = operations[0].epilogue();
        assert_eq!((epilogue.output, epilogue.positions), (pool.outputs[0], Some(pool.outputs[1])));
        assert_eq!(epilogue.kind, Epilogue::Bias { relu: true });
    }

    #[test]
    fn pool_is_not_fused_if_results_are_read_elsewhere_or_its_geometry_is_unsupported() {
        let mut output = pooled(4, 2);
        output.0.mark_output(output.1).unwrap();
        let mut read_twice = pooled(4, 2);
        read_twice.0.push_one(Op::Relu, &[read_twice.1], "another").unwrap();
        let is_separate = |operations: Vec<Operation>| {
            indices(&operations).contains(&3) && operations[0].epilogue().positions.is_none()
        };
        for (graph, _) in [output, read_twice, pooled(3, 2), pooled(4, 1)] {
            assert!(is_separate(fused(&graph)));
        }
        let (graph, _) = pooled(4, 2);
        let im2col = Settings { explicit_columns: true, ..Settings::SOFTWARE };
        assert!(is_separate(fused_with(&graph, &im2col)), "im2col does not support a fused pool");
    }
}
