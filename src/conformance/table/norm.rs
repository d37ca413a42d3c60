//! Batch normalization.

use super::build::{limited, single};
use crate::conformance::case::{Case, DataKind, Fill, Operand};
use crate::graph::Op;

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
    }
    all
}
