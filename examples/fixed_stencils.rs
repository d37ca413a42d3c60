//! A convolution with three fixed filters, two Sobel operators and a Laplace operator, and five trained ones.

mod shared;

use frazil::trainer::GradientPolicy::Masked;
use frazil::{Digits, Mask, Sgd};
use shared::{Outcome, ensure, gpu, proved, train, trainer};

const STENCILS: [[f32; 9]; 3] = [
    [-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0],
    [-1.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0],
    [0.0, 1.0, 0.0, 1.0, -4.0, 1.0, 0.0, 1.0, 0.0],
];

fn main() -> Outcome {
    let mut t = trainer(&gpu()?, 10, 1, Masked, Sgd::new(0.05).momentum(0.9).weight_decay(1e-4))?;
    // HWIO with one input channel: element `position` of filter `filter` has index position * 8 + filter.
    let mut kernel = t.parameter("conv.kernel")?;
    for (filter, stencil) in STENCILS.iter().enumerate() {
        stencil.iter().enumerate().for_each(|(position, weight)| kernel[position * 8 + filter] = *weight);
    }
    t.set_and_freeze("conv.kernel", &kernel, &Mask::from_frozen((0..72).map(|i| i % 8 < 3)))?;
    train(&mut t, &Digits::train()?, 15)?;

    let now = t.parameter("conv.kernel")?;
    let changed = |from: usize, to: usize| {
        (0..72).filter(|i| (from..to).contains(&(i % 8)) && now[*i].to_bits() != kernel[*i].to_bits()).count()
    };
    let accuracy = t.evaluate(&Digits::test()?)?.accuracy();
    println!(
        "{} of 27 stencil weights changed, {} of 45 others; accuracy {accuracy:.4}",
        changed(0, 3),
        changed(3, 8)
    );
    ensure(
        changed(0, 3) == 0 && changed(3, 8) == 45,
        "the stencils keep their bits, all others are trained",
    )?;
    ensure(accuracy > 0.85, "the digits are learned with fixed stencils")?;
    proved(&t)
}
