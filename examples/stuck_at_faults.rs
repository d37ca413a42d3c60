//! Memory cells that are stuck: weights that read as 0 or as a largest value whatever is written. A network trained with
//! its faults frozen in place against one that learns of them too late.

mod shared;

use frazil::trainer::GradientPolicy::Masked;
use frazil::{Digits, FreezeRule, Mask, Sgd, Trainer};
use shared::{KERNELS, Outcome, ensure, gpu, proved, train, trainer};

const STUCK: f32 = 0.5;

/// Forces a fifth of each kernel: every other fault at 0, and one in four each at the two ends.
fn inject(t: &mut Trainer) -> frazil::Result<()> {
    for path in KERNELS {
        let len = t.mask(path)?.len();
        let faults: Mask = FreezeRule::random(0.2).seed(11).resolve(path, len)?;
        let mut values = vec![0.0; len];
        for (number, index) in faults.frozen_indices().enumerate() {
            values[index] = [0.0, STUCK, 0.0, -STUCK][number % 4];
        }
        t.set_and_freeze(path, &values, &faults)?;
    }
    Ok(())
}

fn main() -> Outcome {
    let (gpu, data, test) = (gpu()?, Digits::train()?, Digits::test()?);
    let optimizer = || Sgd::new(0.02).momentum(0.9);
    let mut ignoring = trainer(&gpu, 10, 1, Masked, optimizer())?;
    train(&mut ignoring, &data, 12)?;
    let healthy = ignoring.evaluate(&test)?.accuracy.unwrap_or(f64::NAN);
    inject(&mut ignoring)?;

    let mut aware = trainer(&gpu, 10, 1, Masked, optimizer())?;
    inject(&mut aware)?;
    train(&mut aware, &data, 12)?;
    proved(&aware)?;
    let (ignoring, aware) = (
        ignoring.evaluate(&test)?.accuracy.unwrap_or(f64::NAN),
        aware.evaluate(&test)?.accuracy.unwrap_or(f64::NAN),
    );
    println!("no faults: accuracy {healthy:.4}");
    println!("20 % of the weights stuck: {ignoring:.4} if training ignored them, {aware:.4} if it knew them");
    ensure(aware > ignoring + 0.2, "training with the faults frozen gains more than 20 points")?;
    ensure(aware > healthy - 0.05, "it comes within 5 points of a network without faults")
}
