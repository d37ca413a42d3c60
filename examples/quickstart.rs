//! The example of the README: one epoch on the digits with half of a kernel and one element of a bias frozen.

use frazil::{
    Digits, FreezeRule, Gpu, GpuOptions, Loss, Mask, Model, Padding::Same, Sgd, Trainer, TrainerOptions,
};

fn main() -> frazil::Result<()> {
    let gpu = Gpu::new(GpuOptions::default())?;
    let model = Model::input([8, 8, 1])
        .conv2d("conv1", 8, [3, 3], |c| c.padding(Same))
        .relu()
        .max_pool2d([2, 2])
        .flatten()
        .dense("fc", 10)
        .build()?;
    let sgd = Sgd::new(0.05).momentum(0.9).weight_decay(1e-4);
    let options = TrainerOptions::batch(64).seed(7);
    let mut trainer = Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, sgd, options)?;
    trainer.freeze("conv*.kernel", FreezeRule::random(0.5).seed(42))?;
    trainer.set_and_freeze("fc.bias", &[0.25; 10], &Mask::from_frozen((0..10).map(|i| i == 3)))?;
    for batch in Digits::train()?.batches(64, 7)? {
        trainer.step(&batch)?;
    }
    println!("{}", trainer.evaluate(&Digits::test()?)?);
    println!("{}", trainer.verify_frozen()?);
    Ok(())
}
