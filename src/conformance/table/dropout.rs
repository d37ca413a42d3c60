//! Dropout.

use super::{KINDS, single};
use crate::conformance::case::{Case, DataKind, Fill, Operand};
use crate::graph::{Dropout, Op};

pub(super) fn cases() -> Vec<Case> {
    let shapes: [(usize, &[usize]); 5] = [(1, &[1]), (3, &[5]), (4, &[4]), (7, &[3, 3, 3]), (2, &[2049])];
    let mut all = Vec::new();
    for kind in KINDS {
        // At these rates the factor is a power of two, and integers stay exact.
        let rates: &[f64] = if kind == DataKind::Integers { &[0.5, 0.75] } else { &[0.1, 0.5, 0.9] };
        for &rate in rates {
            for (layer, (batch, extents)) in (0u32..).zip(shapes) {
                let name = format!("dropout {rate} {batch} of {extents:?}");
                let x = vec![Operand::batched(extents, Fill::Data)];
                all.push(single(name, Op::Dropout(Dropout { rate, layer }), batch, x, kind));
            }
        }
    }
    let alone = vec![Operand::fixed(&[3, 7], Fill::Data)];
    let op = Op::Dropout(Dropout { rate: 0.5, layer: 1 });
    all.push(single("dropout without a batch".into(), op.clone(), 1, alone, DataKind::Integers));
    let specials = vec![Operand::batched(&[37], Fill::Specials)];
    all.push(single("dropout of NaN and infinities".into(), op, 3, specials, DataKind::Integers));
    all
}
