//! Stuck-at faults of memory cells: some weights read as 0 or as +-0.5 whatever value is written to them.
//! Compares a network that is trained with its faulty weights frozen with a network into which the same
//! faults are injected after training.

mod shared;

use frazil::trainer::GradientPolicy::Masked;
use frazil::{Digits, FreezeRule, Mask, Sgd, Trainer};
use shared::{KERNELS, Outcome, ensure, gpu, proved, train, trainer};

const STUCK: f32 = 0.5;

/// Freezes a random fifth of each kernel at faulty values: half of these weights at 0, a quarter at `STUCK`
/// and a quarter at `-STUCK`.
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
    let mut unaware = trainer(&gpu, 10, 1, Masked, optimizer())?;
    train(&mut unaware, &data, 12)?;
    let healthy = unaware.evaluate(&test)?.accuracy();
    inject(&mut unaware)?;

    let mut aware = trainer(&gpu, 10, 1, Masked, optimizer())?;
    inject(&mut aware)?;
    train(&mut aware, &data, 12)?;
    proved(&aware)?;
    let (unaware, aware) = (unaware.evaluate(&test)?.accuracy(), aware.evaluate(&test)?.accuracy());
    println!("no faults: accuracy {healthy:.4}");
    println!(
        "20 % of the weights stuck: {unaware:.4} if injected after training, {aware:.4} if frozen in training"
    );
    ensure(
        aware > unaware + 0.2,
        "training with the faults frozen improves the accuracy by more than 20 points",
    )?;
    ensure(
        aware > healthy - 0.05,
        "training with the faults frozen is within 5 points of a network without faults",
    )
}
