//! RigL (Evci et al. 2020): a sparse network with a dynamic mask. At intervals the smallest weights are
//! dropped, and as many frozen zeros with the largest dense gradients are grown. The density is constant.

mod shared;

use frazil::mask::{MaskSchedule, TensorView};
use frazil::trainer::GradientPolicy::Dense;
use frazil::trainer::ThawPolicy::ZeroState;
use frazil::{Digits, FreezeRule, Sgd, Trainer};
use shared::{KERNELS, Outcome, ensure, gpu, proved, trainer};

/// Drops a fraction of the active weights and grows the same number of frozen ones; returns this number.
fn update(t: &mut Trainer, path: &str, fraction: f64) -> frazil::Result<usize> {
    let candidates = t.mask(path)?.clone();
    let active = candidates.len() - candidates.frozen_count();
    let count = ((fraction * active as f64).round() as usize).min(candidates.frozen_count());
    let scores = t.gradient(path)?;
    // Selects the weights to grow among those frozen before the drop, so that no dropped weight is grown
    // again at once.
    let view = TensorView { path, shape: &[candidates.len()], bits: None, frozen: &candidates };
    let grown = FreezeRule::largest(0.0).count(count).among_frozen().scores(scores).resolve_all(&[view])?;
    t.prune(path, FreezeRule::smallest(0.0).count(count).among_trainable())?;
    grown.into_iter().map(|mask| t.thaw(path, FreezeRule::mask(mask), ZeroState)).sum()
}

fn main() -> Outcome {
    let (gpu, data, test) = (gpu()?, Digits::train()?, Digits::test()?);
    let schedule = MaskSchedule::cosine(0.3).begin(23).end(345).every(23);
    let mut accuracies = Vec::new();
    for dynamic in [false, true] {
        let mut t = trainer(&gpu, 10, 1, Dense, Sgd::new(0.05).momentum(0.9))?;
        t.prune("*.kernel", FreezeRule::random(0.9).seed(3))?;
        let (frozen, mut grown) = (t.frozen_count(), 0);
        let initial: Vec<_> = KERNELS.iter().map(|p| t.mask(p).cloned()).collect::<frazil::Result<_>>()?;
        for epoch in 0..20 {
            for batch in data.batches_for_epoch(64, 7, epoch)? {
                if let Some(fraction) = schedule.at(t.steps()).filter(|_| dynamic) {
                    for path in KERNELS {
                        grown += update(&mut t, path, fraction)?;
                    }
                    ensure(t.frozen_count() == frozen, "the density is constant")?;
                }
                t.step(&batch)?;
            }
        }
        proved(&t)?;
        let mut added = 0;
        for (path, old) in KERNELS.iter().zip(&initial) {
            added += old.difference(t.mask(path)?)?.frozen_count();
            let (weights, mask) = (t.parameter(path)?, t.mask(path)?);
            ensure(mask.frozen_indices().all(|i| weights[i].to_bits() == 0), "all frozen weights are 0")?;
        }
        let accuracy = t.evaluate(&test)?.accuracy();
        let what = if dynamic { "RigL" } else { "a fixed random mask" };
        println!("{what}: {frozen} frozen, {grown} grown, {added} at new positions; accuracy {accuracy:.4}");
        ensure((grown > 0) == dynamic, "RigL alone grows weights")?;
        accuracies.push(accuracy);
    }
    ensure(accuracies[1] > accuracies[0] + 0.05, "a dynamic mask exceeds a fixed one by more than 5 points")
}
