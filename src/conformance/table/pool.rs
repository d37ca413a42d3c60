//! Pooling over whole images.

use super::{KINDS, chain, single};
use crate::conformance::case::{Case, DataKind, Fill, Operand, Wire};
use crate::graph::Op;

pub(super) fn cases() -> Vec<Case> {
    // Of integers the mean over 2^k pixels is exact; reals come in any number.
    let shapes: [(usize, [usize; 3]); 7] = [
        (1, [1, 1, 1]),
        (5, [1, 1, 17]),
        (3, [4, 2, 5]),
        (2, [8, 8, 64]),
        (4, [3, 5, 7]),
        (7, [1, 13, 3]),
        (1, [50, 37, 2]),
    ];
    let mut all = Vec::new();
    for kind in KINDS {
        for (batch, extents) in shapes {
            let [h, w, c] = extents;
            if kind == DataKind::Integers && !(h * w).is_power_of_two() {
                continue;
            }
            let (x, dy) = (Operand::batched(&extents, Fill::Data), Operand::batched(&[c], Fill::Data));
            let name = |op: &str| format!("{op} {batch} of {extents:?}");
            all.push(single(name("global_avg_pool"), Op::GlobalAvgPool, batch, vec![x.clone()], kind));
            let grad = Op::GlobalAvgPoolGrad([h, w]);
            all.push(single(name("global_avg_pool_grad"), grad.clone(), batch, vec![dy], kind));
            if kind == DataKind::Integers {
                let nodes =
                    vec![(Op::GlobalAvgPool, vec![Wire::Operand(0)]), (grad, vec![Wire::Result(0, 0)])];
                all.push(chain(name("global_avg_pool and its gradient"), batch, vec![x], nodes, kind));
            }
        }
    }
    all
}
