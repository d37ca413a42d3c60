//! Gradual magnitude pruning (Zhu and Gupta 2017): while the network trains, the pruned fraction of all
//! kernels together rises to 90 %.

mod shared;

use frazil::mask::MaskSchedule;
use frazil::trainer::GradientPolicy::Masked;
use frazil::{Digits, FreezeRule, Sgd};
use shared::{KERNELS, Outcome, ensure, gpu, proved, train, trainer};

fn main() -> Outcome {
    let (gpu, data, test) = (gpu()?, Digits::train()?, Digits::test()?);
    let optimizer = || Sgd::new(0.05).momentum(0.9).weight_decay(1e-4);
    let mut dense = trainer(&gpu, 10, 1, Masked, optimizer())?;
    train(&mut dense, &data, 20)?;

    let mut t = trainer(&gpu, 10, 1, Masked, optimizer())?;
    let schedule = MaskSchedule::polynomial(0.0, 0.9).begin(46).end(322).every(23);
    for epoch in 0..20 {
        for batch in data.batches_for_epoch(64, 7, epoch)? {
            if let Some(fraction) = schedule.at(t.steps()) {
                t.prune("*.kernel", FreezeRule::smallest(fraction).global())?;
            }
            t.step(&batch)?;
        }
    }
    let (before, after) = (dense.evaluate(&test)?.accuracy(), t.evaluate(&test)?.accuracy());
    let (mut pruned, mut all) = (0, 0);
    for path in KERNELS {
        let (weights, mask) = (t.parameter(path)?, t.mask(path)?);
        let zeros = mask.frozen_indices().filter(|&i| weights[i].to_bits() == 0).count();
        println!("{path}: {zeros} of {} are 0", weights.len());
        ensure(mask.frozen_count() == zeros, "every frozen weight is 0 after the last update")?;
        pruned += zeros;
        all += weights.len();
    }
    let expected = (0.9 * all as f64).round() as usize;
    ensure(pruned == expected, "exactly 90 % of the weights are 0 after the last update")?;
    println!("accuracy {before:.4} dense, {after:.4} with 90 % pruned");
    ensure(after > before - 0.05, "pruning costs less than 5 points")?;
    proved(&t)
}
