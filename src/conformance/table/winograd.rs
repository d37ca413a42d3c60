//! Convolutions by Winograd's transforms.

use super::conv::{Geometry, adjoints, chains, explicit, geometry, pooled};
use super::with;
use crate::conformance::case::{Case, DataKind};
use crate::error::Result;
use crate::shape::Padding::{Same, Valid};

/// Images of whole tiles and not, smaller than one, padded on one side; channels beyond one tile of a product.
fn geometries() -> Vec<Geometry> {
    vec![
        geometry("8x8", [8, 8, 4], 8, [3, 3], Same).batch(3),
        geometry("7x9", [7, 9, 8], 4, [3, 3], Same).batch(3),
        geometry("6x11 valid", [6, 11, 4], 4, [3, 3], Valid),
        geometry("2x3", [2, 3, 4], 4, [3, 3], Same).batch(5),
        geometry("asymmetric padding", [5, 6, 4], 4, [3, 3], explicit(2, 0, 0, 3)).batch(4),
        geometry("12x4, 36 channels", [12, 4, 16], 36, [3, 3], Same),
        geometry("5x5, 40 to 16 channels", [5, 5, 40], 16, [3, 3], Same),
        geometry("8x8 by 5x5", [8, 8, 4], 8, [5, 5], Same).batch(3),
        geometry("9x11 by 5x5, valid", [9, 11, 8], 4, [5, 5], Valid),
        geometry("2x3 by 5x5", [2, 3, 4], 4, [5, 5], Same).batch(5),
        geometry("5x5, asymmetric padding", [5, 6, 4], 4, [5, 5], explicit(4, 0, 1, 3)).batch(4),
        geometry("5x4 by 5x5, 40 to 36 channels", [5, 4, 40], 36, [5, 5], Same),
    ]
}

/// Of few results, so that none of them are as near to each other as the bounds are wide.
fn pooled_geometries() -> Vec<Geometry> {
    vec![
        geometry("4x6 to 4", [4, 6, 4], 4, [3, 3], Same).batch(3),
        geometry("8x8", [8, 8, 4], 4, [3, 3], Same),
        geometry("4x4, 5x5 kernel", [4, 4, 4], 4, [5, 5], Same),
    ]
}

pub(super) fn cases() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    let plain = geometries().into_iter().map(|g| (g, false));
    for (g, pool) in plain.chain(pooled_geometries().into_iter().map(|g| (g, true))) {
        let mut whole = Vec::new();
        if pool {
            whole.extend(pooled(&g, DataKind::Reals)?);
        } else {
            whole.extend(adjoints(&g, DataKind::Reals)?);
            whole.extend(chains(&g, DataKind::Reals)?);
        }
        for case in whole {
            let case = with(&case, "winograd", |ops| ops.winograd = true);
            if g.batch > 2 {
                // One image at a time.
                all.push(with(&case, "in parts", |ops| ops.workspace_bytes = Some(4)));
            }
            all.push(case);
        }
    }
    Ok(all)
}
