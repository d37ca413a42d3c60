//! Normalization.

use super::build::{chain, limited, single, with};
use crate::conformance::case::{Case, DataKind, Fill, Operand, Wire};
use crate::graph::{Normalization, Op};

/// Number of rows above which a case also runs with a lower limit of iterations.
const LONG_ROWS: usize = 60_000;

pub(super) fn cases() -> Vec<Case> {
    // Batch sizes and extents. Serial sums have one split, two splits, a shorter last split, and the maximum
    // number of splits; parallel sums have one and several splits, of a part of a tile's columns and of
    // several tiles.
    let shapes: [(usize, &[usize]); 13] = [
        (5, &[3]),
        (1, &[1]),
        (130, &[9]),
        (7, &[10, 13, 5]),
        (3, &[1, 1, 70]),
        (9, &[50, 50, 2]),
        (191, &[1]),
        (6, &[4]),
        (130, &[3, 2, 8]),
        (9, &[20, 20, 12]),
        (70, &[3, 1, 132]),
        (4, &[129, 128, 3]),
        (1, &[257, 256, 4]),
    ];
    let mut all = Vec::new();
    for (batch, extents) in shapes {
        let channels = extents[extents.len() - 1];
        let vector = |fill| Operand::fixed(&[channels], fill);
        let like = |fill| Operand::batched(extents, fill);
        let mut case = |name: &str, op: Op, operands: Vec<Operand>| {
            let name = format!("{} {batch} of {extents:?}{name}", op.name());
            let case = single(name, op, batch, operands, DataKind::Reals);
            // The longest sums are divided into more splits, as if they exceeded the limit of iterations.
            if batch * extents.iter().product::<usize>() / channels > LONG_ROWS {
                all.push(limited(&case, 400));
            }
            all.push(case);
        };
        let statistics = Op::BatchStatistics { epsilon: 1e-5 };
        for (data, fill) in
            [("", Fill::Data), (" far from 0", Fill::Shifted), (" times 0", Fill::Scaled(0.0))]
        {
            case(data, statistics.clone(), vec![like(fill)]);
        }
        let affine = || [vector(Fill::Data), vector(Fill::Data), vector(Fill::Data), vector(Fill::Positive)];
        for (name, epsilon) in [("", None), (" of a variance", Some(1e-3))] {
            let operands = [vec![like(Fill::Data)], affine().to_vec()].concat();
            case(name, Op::BatchNorm { epsilon }, operands);
        }
        let pair = vec![like(Fill::Data), like(Fill::Data)];
        let moments = vec![vector(Fill::Data), vector(Fill::Positive)];
        for (name, epsilon) in [("", None), (" of a variance", Some(1e-3))] {
            case(name, Op::BatchNormGradScale { epsilon }, [pair.clone(), moments.clone()].concat());
        }
        let sums = vec![vector(Fill::Data), vector(Fill::Data)];
        let operands = [pair, vec![vector(Fill::Data)], moments, sums].concat();
        case("", Op::BatchNormGradInput, operands);
        for case in fused(batch, extents) {
            all.push(with(&case, "all kept", |ops| ops.keep_all = true));
            all.push(case);
        }
    }
    all.extend(examples());
    all
}

/// Normalization of examples: sets of an invocation, of a small and of a large workgroup, of one position and of all.
fn examples() -> Vec<Case> {
    // Batch sizes, extents, and numbers of groups.
    let shapes: [(usize, &[usize], &[usize]); 11] = [
        (5, &[3], &[1]),
        (1, &[2], &[1]),
        (130, &[12], &[1, 3]),
        (7, &[3, 2, 6], &[1, 2, 3, 6]),
        (3, &[5, 1, 32], &[1, 32]),
        (2, &[3, 700], &[1, 2]),
        (4, &[9, 11, 40], &[1, 4, 40]),
        (3, &[2_500], &[1]),
        (65, &[33], &[1, 11]),
        (2, &[130, 129, 4], &[1, 2]),
        (1, &[1025, 513, 2], &[1]),
    ];
    let mut all = Vec::new();
    for (batch, extents, groups) in shapes {
        let (channels, elements) = (extents[extents.len() - 1], extents.iter().product::<usize>());
        for (&groups, each_position) in groups.iter().flat_map(|groups| [(groups, false), (groups, true)]) {
            let sets = if each_position { elements / channels * groups } else { groups };
            if sets == elements {
                continue;
            }
            let of = Normalization { groups, each_position, epsilon: 1e-5 };
            let position = if each_position { " at each position" } else { "" };
            let mut case = |op: Op, data: &str, operands: Vec<Operand>| {
                let name = format!("{} {batch} of {extents:?} in {groups}{position}{data}", op.name());
                all.push(single(name, op, batch, operands, DataKind::Reals));
            };
            let like = |fill| Operand::batched(extents, fill);
            for (data, fill) in
                [("", Fill::Data), (" far from 0", Fill::Shifted), (" times 0", Fill::Scaled(0.0))]
            {
                case(Op::Normalize(of), data, vec![like(fill)]);
            }
            let inv_std = Operand::batched(&[sets], Fill::Positive);
            case(Op::NormalizeGrad(of), "", vec![like(Fill::Data), inv_std, like(Fill::Data)]);
        }
    }
    all
}

/// Chains that the compiler fuses: a batch norm with an addition and a ReLU after it; the gradients of scale and
/// shift with the gradient of a ReLU and a sum before them. Each chain is also compiled with all results as
/// outputs, which prevents fusion.
fn fused(batch: usize, extents: &[usize]) -> Vec<Case> {
    let channels = extents[extents.len() - 1];
    let vector = |fill| Operand::fixed(&[channels], fill);
    let like = || Operand::batched(extents, Fill::Data);
    let mut all = Vec::new();
    let mut push = |name: &str, operands: &[Operand], nodes: Vec<(Op, Vec<Wire>)>| {
        let name = format!("{name} {batch} of {extents:?}");
        all.push(chain(name, batch, operands.to_vec(), nodes, DataKind::Reals));
    };
    let [x, other, activation] = [0, 1, 2].map(Wire::Operand);
    let mut operands = vec![like(), like()];
    operands.extend([Fill::Data, Fill::Data, Fill::Data, Fill::Positive].map(vector));
    let norm = |epsilon| {
        let operands = vec![x, Wire::Operand(2), Wire::Operand(3), Wire::Operand(4), Wire::Operand(5)];
        (Op::BatchNorm { epsilon }, operands)
    };
    let of_norm = Wire::Result(0, 0);
    push("batch_norm, relu", &operands, vec![norm(None), (Op::Relu, vec![of_norm])]);
    let add = |wires: [Wire; 2]| (Op::Add, wires.to_vec());
    push("batch_norm, add", &operands, vec![norm(Some(1e-3)), add([of_norm, other])]);
    let relu = (Op::Relu, vec![Wire::Result(1, 0)]);
    push("batch_norm, add, relu", &operands, vec![norm(None), add([other, of_norm]), relu]);

    // By the statistics of the batch, which parallel kernels merge when they normalize and when they compute the
    // input gradient.
    let statistics = (Op::BatchStatistics { epsilon: 1e-5 }, vec![x]);
    let [mean, inv_std] = [0, 1].map(|result| Wire::Result(0, result));
    let operands = [like(), like(), vector(Fill::Data), vector(Fill::Data)];
    let [scale, shift] = [2, 3].map(Wire::Operand);
    let norm = (Op::BatchNorm { epsilon: None }, vec![x, scale, shift, mean, inv_std]);
    push("batch_statistics, batch_norm", &operands, vec![statistics.clone(), norm.clone()]);
    let nodes = vec![statistics.clone(), norm, add([Wire::Result(1, 0), other])];
    let relu = (Op::Relu, vec![Wire::Result(2, 0)]);
    push("batch_statistics, batch_norm, add, relu", &operands, [nodes, vec![relu]].concat());
    let grad_scale = (Op::BatchNormGradScale { epsilon: None }, vec![x, other, mean, inv_std]);
    let [dscale, dshift] = [1, 2].map(|node| Wire::Result(node, 0));
    let grad_input = (Op::BatchNormGradInput, vec![x, other, scale, mean, inv_std, dscale, dshift]);
    let nodes = vec![statistics.clone(), grad_scale, (Op::BiasGrad, vec![other]), grad_input];
    push("batch_statistics, batch_norm_grad_input", &operands, nodes);

    // With a ReLU after the normalization, whose sign parallel kernels compute again. With few different inputs per
    // channel, none is so close to 0 that rounding decides its sign.
    let operands = [Operand::batched(extents, Fill::Ties), like(), vector(Fill::Data), vector(Fill::Data)];
    let norm = (Op::BatchNorm { epsilon: None }, vec![x, scale, shift, mean, inv_std]);
    let relu = (Op::Relu, vec![Wire::Result(1, 0)]);
    let relu_grad = (Op::ReluGrad, vec![Wire::Result(2, 0), other]);
    let gradient = Wire::Result(3, 0);
    let grad_scale = (Op::BatchNormGradScale { epsilon: None }, vec![x, gradient, mean, inv_std]);
    let grad_shift = (Op::BiasGrad, vec![gradient]);
    let [dscale, dshift] = [4, 5].map(|node| Wire::Result(node, 0));
    let grad_input = (Op::BatchNormGradInput, vec![x, gradient, scale, mean, inv_std, dscale, dshift]);
    let nodes = vec![statistics, norm, relu, relu_grad, grad_scale, grad_shift, grad_input];
    push("batch_norm, relu, batch_norm_grad_input", &operands, nodes);

    let operands = [like(), like(), like(), like(), vector(Fill::Data), vector(Fill::Positive)];
    let [dy, mean, spread] = [3, 4, 5].map(Wire::Operand);
    for (prefix, sums) in [("", None), ("relu_grad, ", Some(false)), ("add, relu_grad, ", Some(true))] {
        let mut nodes = Vec::new();
        let mut gradient = dy;
        if sums == Some(true) {
            nodes.push(add([dy, other]));
            gradient = Wire::Result(0, 0);
        }
        if sums.is_some() {
            nodes.push((Op::ReluGrad, vec![activation, gradient]));
            gradient = Wire::Result(nodes.len() - 1, 0);
        }
        let at = nodes.len();
        nodes.push((Op::BatchNormGradScale { epsilon: None }, vec![x, gradient, mean, spread]));
        nodes.push((Op::BiasGrad, vec![gradient]));
        // The last result depends on those to compare: on the gradients of scale and shift, or on the gradient
        // that the ReLU passes on.
        let both = (Op::Mul, vec![Wire::Result(at, 0), Wire::Result(at + 1, 0)]);
        push(&format!("{prefix}sums"), &operands, [nodes.clone(), vec![both]].concat());
        if sums.is_some() {
            let scale = (Op::Scale(2.0), vec![gradient]);
            push(&format!("{prefix}gradient"), &operands, [nodes, vec![scale]].concat());
        }
    }
    all
}
