//! The lottery ticket hypothesis (Frankle and Carbin 2019): repeatedly train, prune the smallest weights, and
//! rewind the others to their initial values. The resulting sparse network (the ticket) must reach the
//! accuracy of the dense network, and exceed that of the same mask on other initial weights.

mod shared;

use frazil::trainer::GradientPolicy::Masked;
use frazil::trainer::RewindState;
use frazil::{Digits, FreezeRule, Gpu, Result, Sgd};
use shared::{KERNELS, Outcome, ensure, gpu, proved, train, trainer};

const ITERATIONS: usize = 7;
const EPOCHS: u64 = 4;

/// Returns the test accuracies of the dense network, of the ticket, and of the control (the ticket's mask on
/// other initial weights).
fn run(gpu: &Gpu, seed: u64) -> Outcome<[f64; 3]> {
    let (data, test) = (Digits::train()?, Digits::test()?);
    let optimizer = || Sgd::new(0.05).momentum(0.9);
    let mut t = trainer(gpu, 10, seed, Masked, optimizer())?;
    let initial = t.snapshot()?;
    let mut dense = None;
    for _ in 0..ITERATIONS {
        train(&mut t, &data, EPOCHS)?;
        dense.get_or_insert(t.evaluate(&test)?.accuracy());
        t.prune("*.kernel", FreezeRule::smallest(0.35).global().among_trainable())?;
        t.rewind(&initial, RewindState::Zero)?;
    }
    train(&mut t, &data, EPOCHS)?;
    proved(&t)?;
    let mut control = trainer(gpu, 10, seed + 100, Masked, optimizer())?;
    for path in KERNELS {
        control.prune(path, FreezeRule::mask(t.mask(path)?.clone()))?;
    }
    train(&mut control, &data, EPOCHS)?;
    let kept: usize =
        KERNELS.iter().map(|p| Ok(t.mask(p)?.complement().frozen_count())).sum::<Result<_>>()?;
    let all: usize = KERNELS.iter().map(|p| Ok(t.mask(p)?.len())).sum::<Result<_>>()?;
    let (ticket, control) = (t.evaluate(&test)?.accuracy(), control.evaluate(&test)?.accuracy());
    let dense = dense.unwrap_or(0.0);
    println!(
        "seed {seed}: dense {dense:.4}; {kept} of {all} weights: ticket {ticket:.4}, other weights {control:.4}"
    );
    Ok([dense, ticket, control])
}

fn main() -> Outcome {
    let gpu = gpu()?;
    let mut mean = [0.0; 3];
    for seed in 1..=2 {
        let one = run(&gpu, seed)?;
        mean.iter_mut().zip(one).for_each(|(mean, x)| *mean += x / 2.0);
    }
    println!("mean: dense {:.4}, ticket {:.4}, other weights {:.4}", mean[0], mean[1], mean[2]);
    ensure(
        mean[1] > mean[0] - 0.05,
        "with a twentieth of the weights, the ticket is within 5 points of the dense network",
    )?;
    ensure(
        mean[1] > mean[2] + 0.1,
        "the ticket exceeds other initial weights under the same mask by more than 10 points",
    )
}
