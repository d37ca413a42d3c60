//! Fuses the addition and the ReLU after a batch normalization into it, and the shift gradient, the ReLU gradient
//! and the sum of gradients before it into its scale gradient.

use super::{changes_memory, reads_gradients};
use crate::compiler::ir::{FusedEpilogue, FusedNorm, FusedReluGradOfSum, Operation, RecomputedReluGrad};
use crate::graph::{Graph, Op, ValueId};
use crate::kernels::Epilogue;

/// Fuses into each batch normalization and into each of its scale gradients what their kernels support.
pub(crate) fn fuse_norms(graph: &Graph, mut operations: Vec<Operation>) -> Vec<Operation> {
    let mut fused = vec![false; operations.len()];
    let values = Values::new(graph, &operations);
    let mut norms = Vec::new();
    let mut grads = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        match operation.node.op {
            Op::BatchNorm { .. } => norms.push((index, values.norm(&operations, index, &mut fused))),
            Op::BatchNormGradScale { .. } => {
                let shift_grad = values.shift_grad(&operations, index, &mut fused);
                grads.push((index, shift_grad, values.relu_grad(&operations, index, &mut fused)));
            }
            _ => {}
        }
    }
    for (index, norm) in norms {
        operations[index].norm = norm;
    }
    for (index, shift_grad, relu_grad) in grads {
        operations[index].norm_grad.shift_grad = shift_grad;
        operations[index].norm_grad.relu_grad = relu_grad;
    }
    let mut fused = fused.into_iter();
    operations.retain(|_| !fused.next().unwrap_or(false));
    operations
}

/// Lets batch normalizations merge the partial batch statistics, and input gradients those of the gradients of scale
/// and shift, if they are the first to read them: a dispatch less for each. If the output gradient is that of the
/// ReLU after the normalization, both gradients compute the sign of the ReLU's output instead of reading it. For
/// devices whose reductions are parallel.
pub(crate) fn merge_in_readers(graph: &Graph, mut operations: Vec<Operation>) -> Vec<Operation> {
    let values = Values::new(graph, &operations);
    for reader in 0..operations.len() {
        let Some(producer) = values.merged_by(&operations, reader) else { continue };
        operations[producer].merged_later = true;
        operations[reader].merges = Some(operations[producer].index);
        let Some(relu_grad) = values.recomputed_relu_grad(&operations, producer, reader) else { continue };
        let gradient = operations[producer].node.inputs[1];
        operations[producer].norm_grad.relu_grad = None;
        operations[producer].norm_grad.recomputed_relu_grad = Some(relu_grad);
        // The GEMM whose epilogue was the ReLU gradient stores what it reads.
        if let Some(gemm) = values.producers[gradient.0].filter(|&gemm| gemm != producer) {
            operations[gemm].epilogue = Some(FusedEpilogue::none(relu_grad.gradient));
        }
    }
    operations
}

/// Producer and users of each value, as indices of operations.
struct Values<'a> {
    graph: &'a Graph,
    producers: Vec<Option<usize>>,
    users: Vec<Vec<usize>>,
}

impl<'a> Values<'a> {
    fn new(graph: &'a Graph, operations: &[Operation]) -> Self {
        let mut producers = vec![None; graph.values().len()];
        let mut users = vec![Vec::new(); graph.values().len()];
        for (index, operation) in operations.iter().enumerate() {
            operation.node.inputs.iter().for_each(|input| users[input.0].push(index));
            let fused = operation.epilogue.map(|epilogue| epilogue.output);
            let fused = fused.or(operation.relu_grad.map(|relu_grad| relu_grad.output));
            let fused = fused.or(operation.norm.map(|norm| norm.output));
            let shift_grad = operation.norm_grad.shift_grad;
            let outputs = operation.node.outputs.iter().chain(&fused).chain(&shift_grad);
            outputs.for_each(|id| producers[id.0] = Some(index));
        }
        // Fused operations read their operands when the operation runs that they are fused into.
        for (index, operation) in operations.iter().enumerate() {
            let operand = operation.epilogue.and_then(|epilogue| epilogue.operand);
            let pooled = operation.relu_grad.map(|relu_grad| relu_grad.pooled);
            let addend = operation.norm.and_then(|norm| norm.addend);
            operand.iter().chain(&pooled).chain(&addend).for_each(|id| users[id.0].push(index));
            if let Some(relu_grad) = operation.norm_grad.relu_grad {
                let read = [Some(relu_grad.activation), Some(relu_grad.gradient), relu_grad.other];
                read.iter().flatten().for_each(|id| users[id.0].push(index));
            }
        }
        Values { graph, producers, users }
    }

    /// Returns the only operation that reads a value that is not an output of the graph.
    fn only_user(&self, value: ValueId) -> Option<usize> {
        match self.users[value.0].as_slice() {
            [one] if !self.graph.at(value).output => Some(*one),
            _ => None,
        }
    }

    /// Returns the batch statistics or the scale gradient whose partial results the operation at `reader` can merge,
    /// because no earlier operation reads its results.
    fn merged_by(&self, operations: &[Operation], reader: usize) -> Option<usize> {
        let node = &operations[reader].node;
        let (first_result, operand) = match node.op {
            Op::BatchNorm { epsilon: None } => (node.inputs[3], 0),
            Op::BatchNormGradInput => (node.inputs[5], 1),
            _ => return None,
        };
        let producer = self.producers[first_result.0]?;
        let of = &operations[producer];
        // The statistics are packed into one buffer, which only those of batched values are.
        let statistics = |mean: ValueId, inv_std: ValueId| {
            self.producers[mean.0].is_some_and(|index| {
                let statistics = &operations[index].node;
                matches!(statistics.op, Op::BatchStatistics { .. })
                    && statistics.outputs[..2] == [mean, inv_std]
                    && self.graph.at(statistics.inputs[0]).batched
            })
        };
        let results = match of.node.op {
            Op::BatchStatistics { .. } if operand == 0 && statistics(node.inputs[3], node.inputs[4]) => {
                of.node.outputs.clone()
            }
            Op::BatchNormGradScale { epsilon: None }
                if operand == 1
                    && of.node.inputs[..2] == node.inputs[..2]
                    && of.node.inputs[2..4] == node.inputs[3..5]
                    && of.norm_grad.shift_grad == Some(node.inputs[6])
                    && statistics(node.inputs[3], node.inputs[4]) =>
            {
                vec![node.inputs[5], node.inputs[6]]
            }
            _ => return None,
        };
        let first_reader = results.iter().flat_map(|id| &self.users[id.0]).min();
        let same_rows = of.node.inputs[0] == node.inputs[0];
        (same_rows && first_reader == Some(&reader) && !changes_memory(&operations[producer..reader]))
            .then_some(producer)
    }

    /// Returns the ReLU gradient before the scale gradient at `producer` and the input gradient at `reader`, if only
    /// these read it, and if the ReLU is fused into the batch normalization of the same operands, so that its sign
    /// follows from them.
    fn recomputed_relu_grad(
        &self,
        operations: &[Operation],
        producer: usize,
        reader: usize,
    ) -> Option<RecomputedReluGrad> {
        let scale_grad = &operations[producer];
        let Op::BatchNormGradScale { .. } = scale_grad.node.op else { return None };
        let result = scale_grad.node.inputs[1];
        let others = self.users[result.0].iter().any(|&user| user != producer && user != reader);
        if others || self.graph.at(result).output {
            return None;
        }
        let (activation, gradient) = match scale_grad.norm_grad.relu_grad {
            Some(relu_grad) if relu_grad.other.is_none() => (relu_grad.activation, relu_grad.gradient),
            Some(_) => return None,
            None => {
                let gemm = &operations[self.producers[result.0]?];
                let fused = gemm.epilogue.filter(|e| e.kind == Epilogue::ReluGrad && e.output == result)?;
                (fused.operand?, gemm.node.outputs[0])
            }
        };
        let norm = self.producers[activation.0]?;
        let node = &operations[norm].node;
        let rectified = Some(FusedNorm { addend: None, relu: true, output: activation });
        let &[x, scale, shift, mean, inv_std] = node.inputs.as_slice() else { return None };
        let same_norm = node.op == Op::BatchNorm { epsilon: None }
            && operations[norm].norm == rectified
            && scale_grad.node.inputs[..] == [x, result, mean, inv_std]
            && operations[reader].node.inputs[2] == scale;
        (same_norm && !changes_memory(&operations[norm..reader])).then_some(RecomputedReluGrad {
            gradient,
            scale,
            shift,
        })
    }

    /// Returns the addition and the ReLU after the batch normalization at `index`.
    fn norm(&self, operations: &[Operation], index: usize, fused: &mut [bool]) -> Option<FusedNorm> {
        let mut norm = FusedNorm { addend: None, relu: false, output: operations[index].node.outputs[0] };
        let mut last = index;
        if let Some(add) = self.only_user(norm.output).filter(|&user| operations[user].node.op == Op::Add) {
            let node = &operations[add].node;
            let addend = node.inputs[usize::from(node.inputs[0] == norm.output)];
            // The addend must exist when the batch normalization runs.
            let exists = self.producers[addend.0].is_none_or(|producer| producer < index);
            if exists && !fused[add] && !changes_memory(&operations[index..add]) {
                norm.addend = Some(addend);
                norm.output = node.outputs[0];
                fused[add] = true;
                last = add;
            }
        }
        let relu = self.only_user(norm.output);
        if let Some(relu) = relu.filter(|&relu| operations[relu].node.op == Op::Relu) {
            norm.relu = true;
            norm.output = operations[relu].node.outputs[0];
            fused[relu] = true;
            last = relu;
        }
        (last != index).then_some(norm)
    }

    /// Returns the result of the shift gradient that follows the scale gradient at `index`.
    fn shift_grad(&self, operations: &[Operation], index: usize, fused: &mut [bool]) -> Option<ValueId> {
        let gradient = operations[index].node.inputs[1];
        let is_bias_grad =
            |&user: &usize| user > index && operations[user].node.op == Op::BiasGrad && !fused[user];
        let user = self.users[gradient.0].iter().copied().find(is_bias_grad)?;
        if changes_memory(&operations[index..user]) {
            return None;
        }
        fused[user] = true;
        Some(operations[user].node.outputs[0])
    }

    /// Returns the ReLU gradient whose result is the output gradient of the scale gradient at `index`, and which
    /// no earlier operation reads.
    fn relu_grad(
        &self,
        operations: &[Operation],
        index: usize,
        fused: &mut [bool],
    ) -> Option<FusedReluGradOfSum> {
        let gradient = operations[index].node.inputs[1];
        let relu = self.producers[gradient.0]?;
        let node = &operations[relu].node;
        let read = |&user: &usize| user < index || reads_gradients(&operations[user].node.op);
        if node.op != Op::ReluGrad
            || fused[relu]
            || self.users[gradient.0].iter().any(read)
            || changes_memory(&operations[relu..index])
        {
            return None;
        }
        fused[relu] = true;
        let [activation, of_output] = [node.inputs[0], node.inputs[1]];
        let sum = self.producers[of_output.0].filter(|&sum| {
            operations[sum].node.op == Op::Add
                && !fused[sum]
                && self.only_user(of_output) == Some(relu)
                && !changes_memory(&operations[sum..index])
        });
        let Some(sum) = sum else {
            return Some(FusedReluGradOfSum { activation, gradient: of_output, other: None });
        };
        fused[sum] = true;
        let [gradient, other] = [0, 1].map(|term| operations[sum].node.inputs[term]);
        Some(FusedReluGradOfSum { activation, gradient, other: Some(other) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::ir::operations;
    use crate::compiler::options::Settings;
    use crate::compiler::passes::fuse_epilogues;
    use crate::graph::DType;
    use crate::shape::Shape;

    const NORM: Op = Op::BatchNorm { epsilon: None };

    fn indices(operations: &[Operation]) -> Vec<usize> {
        operations.iter().map(|operation| operation.index).collect()
    }

    /// Creates a graph with `x`, `other` and `dy [rows, 3]`, and four vectors, without operations.
    fn start() -> (Graph, [ValueId; 3], [ValueId; 4]) {
        let mut graph = Graph::new(2).unwrap();
        let rows = ["x", "other", "dy"].map(|name| graph.batch_input(name, &[3], DType::F32).unwrap());
        let vector = |name| graph.input(name, Shape::new([3]).unwrap(), DType::F32);
        let vectors = ["scale", "shift", "mean", "inv_std"].map(vector);
        (graph, rows, vectors)
    }

    fn norm_of(graph: &mut Graph, x: ValueId, vectors: [ValueId; 4]) -> ValueId {
        let [scale, shift, mean, inv_std] = vectors;
        graph.push_one(NORM, &[x, scale, shift, mean, inv_std], "norm").unwrap()
    }

    #[test]
    fn addition_and_relu_fuse_into_the_batch_norm_before_them() {
        for adds in [false, true] {
            let (mut graph, [x, other, _], vectors) = start();
            let mut y = norm_of(&mut graph, x, vectors);
            if adds {
                y = graph.push_one(Op::Add, &[other, y], "add").unwrap();
            }
            let relu = graph.push_one(Op::Relu, &[y], "relu").unwrap();
            let fused = fuse_norms(&graph, operations(&graph));
            assert_eq!(indices(&fused), [0]);
            let addend = adds.then_some(other);
            assert_eq!(fused[0].norm, Some(FusedNorm { addend, relu: true, output: relu }));
        }
    }

    #[test]
    fn result_that_is_read_twice_and_addend_that_is_computed_later_do_not_fuse() {
        let (mut graph, [x, other, _], vectors) = start();
        let y = norm_of(&mut graph, x, vectors);
        graph.push_one(Op::Relu, &[y], "relu").unwrap();
        graph.push_one(Op::Mul, &[y, other], "another").unwrap();
        assert_eq!(fuse_norms(&graph, operations(&graph)).len(), 3);
        let (mut graph, [x, _, _], vectors) = start();
        let y = norm_of(&mut graph, x, vectors);
        graph.mark_output(y).unwrap();
        graph.push_one(Op::Relu, &[y], "relu").unwrap();
        assert_eq!(fuse_norms(&graph, operations(&graph)).len(), 2);
        // The second batch norm can add the result of the first, but not the other way round.
        let (mut graph, [x, other, _], vectors) = start();
        let first = norm_of(&mut graph, x, vectors);
        let second = norm_of(&mut graph, other, vectors);
        graph.push_one(Op::Add, &[first, second], "add").unwrap();
        let fused = fuse_norms(&graph, operations(&graph));
        assert_eq!(indices(&fused), [0, 1]);
        assert_eq!((fused[0].norm, fused[1].norm.unwrap().addend), (None, Some(first)));
    }

    #[test]
    fn gradients_before_and_after_the_scale_gradient_fuse_into_it() {
        for (sum, early) in [(false, false), (true, false), (true, true)] {
            let (mut graph, [x, other, dy], [_, _, mean, inv_std]) = start();
            let mut terms = (dy, None);
            let mut of_output = dy;
            if sum {
                of_output = graph.push_one(Op::Add, &[dy, other], "sum").unwrap();
                terms.1 = Some(other);
            }
            let gradient = graph.push_one(Op::ReluGrad, &[x, of_output], "relu grad").unwrap();
            if early {
                graph.push_one(Op::Scale(2.0), &[gradient], "earlier").unwrap();
            }
            let op = Op::BatchNormGradScale { epsilon: None };
            graph.push_one(op, &[x, gradient, mean, inv_std], "grad scale").unwrap();
            let shift = graph.push_one(Op::BiasGrad, &[gradient], "grad shift").unwrap();
            graph.push_one(Op::Scale(2.0), &[gradient], "later").unwrap();
            let fused = fuse_norms(&graph, operations(&graph));
            let kept = |index: usize| matches!(graph.nodes()[index].op, Op::BatchNormGradScale { .. });
            let at = fused.iter().position(|operation| kept(operation.index)).unwrap();
            assert_eq!(fused[at].norm_grad.shift_grad, Some(shift));
            let relu_grad = FusedReluGradOfSum { activation: x, gradient: terms.0, other: terms.1 };
            assert_eq!(fused[at].norm_grad.relu_grad, (!early).then_some(relu_grad), "read before: {early}");
            assert_eq!(fused.len(), if early { 5 } else { 2 });
        }
    }

    /// The gradients of scale, shift and input of a batch norm with a ReLU after it. The ReLU gradient is a separate
    /// operation or the epilogue of the GEMM before it; another operation reads its result if `read`.
    fn rectified(epilogue: bool, read: bool) -> (Graph, ValueId, [ValueId; 4]) {
        let mut graph = Graph::new(2).unwrap();
        let [x, dy] = ["x", "dy"].map(|name| graph.batch_input(name, &[3], DType::F32).unwrap());
        let [scale, shift] =
            ["scale", "shift"].map(|name| graph.input(name, Shape::new([3]).unwrap(), DType::F32));
        let weights = graph.input("weights", Shape::new([3, 3]).unwrap(), DType::F32);
        let s = graph.push(Op::BatchStatistics { epsilon: 1e-5 }, &[x], "statistics").unwrap();
        let y = norm_of(&mut graph, x, [scale, shift, s[0], s[1]]);
        let y = graph.push_one(Op::Relu, &[y], "relu").unwrap();
        let mut of_output = dy;
        if epilogue {
            let op = Op::MatMul { transpose_a: false, transpose_b: true };
            of_output = graph.push_one(op, &[dy, weights], "gemm").unwrap();
        }
        let gradient = graph.push_one(Op::ReluGrad, &[y, of_output], "relu grad").unwrap();
        let op = Op::BatchNormGradScale { epsilon: None };
        let dscale = graph.push_one(op, &[x, gradient, s[0], s[1]], "grad scale").unwrap();
        let dshift = graph.push_one(Op::BiasGrad, &[gradient], "grad shift").unwrap();
        let inputs = [x, gradient, scale, s[0], s[1], dscale, dshift];
        let dx = graph.push_one(Op::BatchNormGradInput, &inputs, "grad input").unwrap();
        let mut outputs = vec![y, dx];
        if read {
            outputs.push(graph.push_one(Op::Scale(2.0), &[gradient], "another").unwrap());
        }
        outputs.iter().for_each(|&id| graph.mark_output(id).unwrap());
        (graph, y, [of_output, gradient, scale, shift])
    }

    #[test]
    fn sign_of_the_relu_after_a_norm_is_computed_again_unless_others_read_its_gradient() {
        for (epilogue, read) in [(false, false), (true, false), (true, true), (false, true)] {
            let (graph, y, [of_output, gradient, scale, shift]) = rectified(epilogue, read);
            let settings = Settings { parallel_reductions: true, ..Settings::SOFTWARE };
            let fused = fuse_epilogues(&graph, operations(&graph), &settings);
            let fused = merge_in_readers(&graph, fuse_norms(&graph, fused));
            let of = |wanted: &str| fused.iter().find(|operation| operation.node.label == wanted);
            let grad = of("grad scale").unwrap();
            let expected = RecomputedReluGrad { gradient: of_output, scale, shift };
            assert_eq!(grad.norm_grad.recomputed_relu_grad, (!read).then_some(expected), "{epilogue} {read}");
            let stored = FusedReluGradOfSum { activation: y, gradient: of_output, other: None };
            assert_eq!(grad.norm_grad.relu_grad, (read && !epilogue).then_some(stored));
            let output = if read { gradient } else { of_output };
            assert_eq!(of("gemm").map(|gemm| gemm.epilogue().output), epilogue.then_some(output));
            assert!(of("relu").is_none() && of("relu grad").is_none());
        }
    }
}
