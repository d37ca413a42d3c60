//! Fuses the bias gradient of a layer into its kernel gradient: both read the same output gradient.

use crate::compiler::ir::Operation;
use crate::compiler::options::Settings;
use crate::graph::{Node, Op};
use crate::kernels::GemmFamily;
use std::collections::{BTreeMap, BTreeSet};

/// Attaches each bias gradient to the next kernel gradient that reads the same output gradient, unless an
/// operation between the two reads the bias gradient. Applies only to the subgroup GEMM family, which
/// software adapters use: on these, a separate dispatch takes longer than the sum itself.
pub(crate) fn fuse_bias_grads(mut operations: Vec<Operation>, settings: &Settings) -> Vec<Operation> {
    if !matches!(settings.family, GemmFamily::Subgroup { .. }) {
        return operations;
    }
    // Maps the index of a kernel gradient to the index of the bias gradient to fuse into it. If several bias
    // gradients qualify, the last one is fused.
    let mut fused: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        let node = &operation.node;
        if node.op != Op::BiasGrad {
            continue;
        }
        let later = &operations[index + 1..];
        let reads_same_gradient = |other: &Operation| {
            let kernel_grad = matches!(
                other.node.op,
                Op::Conv2dGradKernel(_) | Op::MatMul { transpose_a: true, transpose_b: false }
            );
            kernel_grad && other.node.inputs[1] == node.inputs[0]
        };
        let Some(distance) = later.iter().position(reads_same_gradient) else { continue };
        if !later[..distance].iter().any(|other| reads(&other.node, node)) {
            fused.insert(index + 1 + distance, index);
        }
    }
    for (&kernel_grad, &bias_grad) in &fused {
        operations[kernel_grad].bias_grad = Some(operations[bias_grad].node.clone());
    }
    let fused: BTreeSet<usize> = fused.into_values().collect();
    let mut index = 0..;
    operations.retain(|_| index.next().is_none_or(|index| !fused.contains(&index)));
    operations
}

/// Whether a node reads a bias gradient. Every accumulation, clip and update counts as a reader.
fn reads(node: &Node, bias_grad: &Node) -> bool {
    node.inputs.contains(&bias_grad.outputs[0])
        || matches!(node.op, Op::Accumulate(_) | Op::Clip(..) | Op::Update(..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::ir::operations;
    use crate::graph::{DType, Graph};

    #[test]
    fn bias_gradient_fuses_into_the_kernel_gradient_unless_it_is_read_before() {
        let kernel_grad = Op::MatMul { transpose_a: true, transpose_b: false };
        for (read, other, expected) in [(false, false, 1), (true, false, 3), (false, true, 2)] {
            let mut graph = Graph::new(2).unwrap();
            let x = graph.batch_input("x", &[3], DType::F32).unwrap();
            let [dy, another] =
                ["dy", "another"].map(|name| graph.batch_input(name, &[4], DType::F32).unwrap());
            let bias = graph.push_one(Op::BiasGrad, &[dy], "bias").unwrap();
            if read {
                graph.push_one(Op::Relu, &[bias], "reader").unwrap();
            }
            graph.push_one(kernel_grad.clone(), &[x, if other { another } else { dy }], "kernel").unwrap();
            let fused = fuse_bias_grads(operations(&graph), &Settings::SOFTWARE);
            let case = format!("read {read}, another operand {other}");
            assert_eq!(fused.len(), expected, "{case}");
            assert_eq!(fused.iter().any(|op| op.bias_grad.is_some()), expected == 1, "{case}");
            let tiled = Settings { family: GemmFamily::Register, ..Settings::SOFTWARE };
            assert_eq!(fuse_bias_grads(operations(&graph), &tiled).len(), graph.nodes().len());
        }
    }
}
