//! Masked updates.

use crate::check::case::{Case, Work};
use crate::check::update::Update;
use crate::graph::UpdateRule;

/// Every rule with and without its options, over tensors around the words of a mask and the gaps of an arena.
pub(super) fn cases() -> Vec<Case> {
    let sgd = |momentum, nesterov, weight_decay| UpdateRule::Sgd { momentum, nesterov, weight_decay };
    let adam = |weight_decay, decoupled| UpdateRule::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay,
        decoupled,
    };
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
    ];
    let mut all = Vec::new();
    for (name, rule) in rules {
        let mut case = |name: String, sizes: &[usize], left_out: &[usize]| {
            let update = Update { rule, sizes: sizes.to_vec(), left_out: left_out.to_vec() };
            all.push(Case { name, work: Work::Update(update) });
        };
        let sizes = [130, 37, 70, 1, 64, 5, 1, 31, 4097];
        case(format!("update {name}"), &sizes, &[]);
        case(format!("update {name}, some tensors left out"), &sizes, &[1, 4, 5]);
        case(format!("update {name}, one element"), &[1], &[]);
    }
    all
}
