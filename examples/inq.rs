//! Incremental network quantisation (Zhou et al. 2017): in each iteration the largest unquantised weights
//! become powers of two and are frozen, and the others are trained, until all are quantised.

mod shared;

use frazil::trainer::GradientPolicy::Masked;
use frazil::{Digits, FreezeRule, Mask, Sgd};
use shared::{KERNELS, Outcome, ensure, gpu, proved, train, trainer};

/// Rounds to the nearest of 0 and the seven powers of two from `2^top` down.
fn quantised(w: f32, top: i32) -> f32 {
    let levels = (0..7).map(|i| 2.0_f32.powi(top - i)).chain([0.0]);
    let nearest = levels.min_by(|a, b| (a - w.abs()).abs().total_cmp(&(b - w.abs()).abs()));
    nearest.unwrap_or(0.0).copysign(w)
}

fn main() -> Outcome {
    let (data, test) = (Digits::train()?, Digits::test()?);
    let mut t = trainer(&gpu()?, 10, 1, Masked, Sgd::new(0.02).momentum(0.9))?;
    train(&mut t, &data, 12)?;
    let float = t.evaluate(&test)?.accuracy();
    println!("float weights: accuracy {float:.4}");
    let mut tops = Vec::new();
    for path in KERNELS {
        let largest = t.parameter(path)?.iter().fold(0.0_f32, |top, w| top.max(w.abs()));
        tops.push((4.0 * largest / 3.0).log2().floor() as i32);
    }
    for fraction in [0.5, 0.75, 0.875, 1.0] {
        for (path, &top) in KERNELS.iter().zip(&tops) {
            let mask = t.mask(path)?;
            let more = (fraction * mask.len() as f64).round() as usize - mask.frozen_count();
            // `freeze` selects the weights; then those that it added are set to their quantised values.
            let old = mask.clone();
            t.freeze(path, FreezeRule::largest(0.0).count(more).among_trainable())?;
            let added: Mask = t.mask(path)?.difference(&old)?;
            let values: Vec<f32> = t.parameter(path)?.into_iter().map(|w| quantised(w, top)).collect();
            t.set_and_freeze(path, &values, &added)?;
        }
        train(&mut t, &data, 3)?;
        proved(&t)?;
        println!("{:>5.1} % quantised: accuracy {:.4}", 100.0 * fraction, t.evaluate(&test)?.accuracy());
    }
    let mut all = 0;
    for path in KERNELS {
        let weights = t.parameter(path)?;
        let power = |w: f32| w == 0.0 || (w.is_normal() && w.to_bits() & 0x007f_ffff == 0);
        ensure(weights.iter().all(|&w| power(w)), "every kernel element is 0 or a power of two")?;
        all += weights.len();
    }
    let accuracy = t.evaluate(&test)?.accuracy();
    println!("{all} kernel elements are 0 or powers of two");
    ensure(accuracy > float - 0.03, "quantisation costs less than 3 points")
}
