//! Masked optimizer updates.

use super::build::{INCOMPLETE_LENGTHS, SPECIAL_VALUES};
use crate::conformance::case::{Case, Planted, Update, Work};
use crate::graph::{Clip, UpdateRule};

/// Cases of every update rule with and without its options, for tensors with lengths near multiples of 32
/// (the bits of a mask word) and of the alignment of tensors in an arena.
pub(super) fn cases() -> Vec<Case> {
    let sgd = |momentum, nesterov, weight_decay| UpdateRule::Sgd { momentum, nesterov, weight_decay };
    let adam = |weight_decay, decoupled| UpdateRule::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay,
        decoupled,
        amsgrad: false,
    };
    let amsgrad = |weight_decay, decoupled| UpdateRule::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay,
        decoupled,
        amsgrad: true,
    };
    let rmsprop = |momentum, centered, weight_decay| UpdateRule::RmsProp {
        alpha: 0.99,
        epsilon: 1e-8,
        momentum,
        centered,
        weight_decay,
    };
    let adagrad = |weight_decay| UpdateRule::Adagrad { epsilon: 1e-10, weight_decay };
    let rules = [
        ("sgd", sgd(0.0, false, 0.0)),
        ("sgd with decay", sgd(0.0, false, 0.01)),
        ("sgd with momentum", sgd(0.9, false, 0.0)),
        ("sgd with momentum and decay", sgd(0.9, false, 0.01)),
        ("sgd with Nesterov's momentum", sgd(0.9, true, 0.0)),
        ("sgd with Nesterov's momentum and decay", sgd(0.9, true, 0.01)),
        ("adam", adam(0.0, false)),
        ("adam with decay", adam(0.01, false)),
        ("adamw", adam(0.01, true)),
        ("amsgrad", amsgrad(0.0, false)),
        ("amsgrad with decay", amsgrad(0.01, false)),
        ("amsgrad with decoupled decay", amsgrad(0.01, true)),
        ("rmsprop", rmsprop(0.0, false, 0.0)),
        ("rmsprop with decay", rmsprop(0.0, false, 0.01)),
        ("rmsprop with momentum", rmsprop(0.9, false, 0.0)),
        ("rmsprop centred", rmsprop(0.0, true, 0.0)),
        ("rmsprop centred with momentum and decay", rmsprop(0.9, true, 0.01)),
        ("adagrad", adagrad(0.0)),
        ("adagrad with decay", adagrad(0.01)),
    ];
    let plain = |rule, sizes: &[usize], excluded: &[usize]| Update {
        rule,
        sizes: sizes.to_vec(),
        excluded: excluded.to_vec(),
        clip: None,
        accumulate: false,
        per_tensor_factors: false,
        missed_steps: false,
        planted: None,
    };
    let sizes = [130, 37, 70, 1, 64, 5, 1, 31, 4097];
    let mut all = Vec::new();
    let mut case = |name: String, update| all.push(Case { name, work: Work::Update(update) });
    for (name, rule) in rules {
        case(format!("update {name}"), plain(rule, &sizes, &[]));
        case(format!("update {name}, some tensors left out"), plain(rule, &sizes, &[1, 4, 5]));
        case(format!("update {name}, one element"), plain(rule, &[1], &[]));
        let factors = Update { per_tensor_factors: true, ..plain(rule, &sizes, &[4]) };
        case(format!("update {name}, factors of tensors"), factors);
        let accumulate = Update { accumulate: true, ..plain(rule, &sizes, &[1]) };
        case(format!("update {name}, two batches"), accumulate);
        if matches!(rule, UpdateRule::Adam { .. }) {
            let missed = |update| Update { missed_steps: true, ..update };
            case(format!("update {name}, missed steps"), missed(plain(rule, &sizes, &[1])));
            case(format!("update {name}, missed steps, one element"), missed(plain(rule, &[1], &[])));
        }
        for length in INCOMPLETE_LENGTHS {
            for index in 4..length {
                for (what, value) in SPECIAL_VALUES {
                    // Enough parameters that the injected value is once in the weights, the gradient and each
                    // state tensor, for each of the two masks.
                    let sizes = vec![length; 2 * (2 + rule.slots().len())];
                    let planted =
                        Update { planted: Some(Planted { index, value }), ..plain(rule, &sizes, &[]) };
                    case(format!("update {name}, {what} at {index} of {length}"), planted);
                }
            }
        }
        // The gradients are about 4,000 samples of the standard normal distribution, so their norm is about
        // 65.
        let clips = [
            ("norm", Clip::norm(0.5)),
            ("norm below its limit", Clip::norm(500.0)),
            ("norm over all", Clip::norm(0.5).over_all()),
            ("value", Clip::value(0.25)),
        ];
        for (what, clip) in clips {
            let clipped = Update { clip: Some(clip), ..plain(rule, &sizes, &[1, 4]) };
            case(format!("update {name}, clipped by {what}"), clipped);
        }
    }
    // A tensor that is so large that many workgroups sum the squares for the norm.
    let large = Update { clip: Some(Clip::norm(1.0)), ..plain(sgd(0.0, false, 0.0), &[300_001, 3], &[]) };
    case("update sgd, clipped by norm, a large tensor".into(), large);
    all
}
