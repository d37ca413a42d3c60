//! Which operations ride in the epilogue of the one before.

use crate::graph::{Graph, Op, ValueId};
use crate::kernels::Epilogue;

/// How one product ends: what is added, whether ReLU follows, and which value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub epilogue: Epilogue,
    pub bias: Option<ValueId>,
    pub output: ValueId,
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
    // The node that alone uses a value, unless the caller may read the value.
    let only_user = |value: ValueId| match users[value.0].as_slice() {
        [one] if !graph.at(value).output => Some(*one),
        _ => None,
    };
    let mut fusion = Fusion { endings: vec![None; nodes.len()], absorbed: vec![false; nodes.len()] };
    for (index, node) in nodes.iter().enumerate() {
        if !matches!(node.op, Op::Conv2d(_) | Op::MatMul { .. }) {
            continue;
        }
        let mut ending = Ending { epilogue: Epilogue::None, bias: None, output: node.outputs[0] };
        let add = only_user(ending.output)
            .filter(|&u| nodes[u].op == Op::BiasAdd && nodes[u].inputs[0] == ending.output);
        if let Some(add) = add {
            fusion.absorbed[add] = true;
            ending = Ending {
                epilogue: Epilogue::Bias { relu: false },
                bias: Some(nodes[add].inputs[1]),
                output: nodes[add].outputs[0],
            };
            if let Some(relu) = only_user(ending.output).filter(|&u| nodes[u].op == Op::Relu) {
                fusion.absorbed[relu] = true;
                ending.epilogue = Epilogue::Bias { relu: true };
                ending.output = nodes[relu].outputs[0];
            }
        }
        fusion.endings[index] = Some(ending);
    }
    fusion
}
