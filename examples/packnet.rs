//! PackNet (Mallya and Lazebnik 2018): trains two tasks in one network, digits 0 to 4 and digits 5 to 9, each
//! with 5 classes. Every element of every kernel, also of the last layer, belongs to one task. Biases are
//! trained by the first task only.

mod shared;

use frazil::mask::Owners;
use frazil::trainer::GradientPolicy::Masked;
use frazil::trainer::ThawPolicy::ZeroState;
use frazil::{Dataset, Digits, FreezeRule, Gpu, Sgd, Trainer};
use shared::{KERNELS, Outcome, ensure, gpu, proved, train, trainer};

/// Returns the examples of digits `5 * task` to `5 * task + 4`, labelled 0 to 4.
fn task(data: &Dataset, task: u32) -> frazil::Result<Dataset> {
    let rows: Vec<usize> = (0..data.len()).filter(|&row| data.labels()[row] / 5 == task).collect();
    let features = rows.iter().flat_map(|&row| data.features()[row * 64..][..64].to_vec()).collect();
    let labels = rows.iter().map(|&row| data.labels()[row] % 5).collect();
    Dataset::new("five digits", [8, 8, 1], features, labels, 5)
}

fn network(gpu: &Gpu) -> frazil::Result<Trainer> {
    trainer(gpu, 5, 1, Masked, Sgd::new(0.05).momentum(0.9).weight_decay(1e-4))
}

/// Returns a copy of the network for the first task, in which kernel elements of other tasks are 0.
fn first_task_alone(gpu: &Gpu, t: &Trainer, owners: &[Owners]) -> frazil::Result<Trainer> {
    let mut copy = network(gpu)?;
    for parameter in t.model().parameters() {
        copy.set_parameter(&parameter.path, &t.parameter(&parameter.path)?)?;
    }
    for (path, owners) in KERNELS.iter().zip(owners) {
        copy.prune(path, FreezeRule::mask(owners.mask_of(1).complement()))?;
    }
    Ok(copy)
}

fn main() -> Outcome {
    let gpu = gpu()?;
    let (data, test) = (Digits::train()?, Digits::test()?);
    let mut t = network(&gpu)?;
    let mut owners = Vec::new();

    // Task 1: train, prune half of the weights, train the rest again.
    train(&mut t, &task(&data, 0)?, 8)?;
    t.prune("*.kernel", FreezeRule::smallest(0.5))?;
    train(&mut t, &task(&data, 0)?, 4)?;
    for path in KERNELS {
        let mut owner = Owners::new(t.mask(path)?.len())?;
        owner.claim(&t.mask(path)?.complement(), 1)?;
        owners.push(owner);
    }
    let before = t.evaluate(&task(&test, 0)?)?;
    let untrained = t.evaluate(&task(&test, 1)?)?.accuracy();

    // Task 2: the weights of task 1 are frozen; the pruned ones start at 0 with zeroed optimizer state.
    t.freeze("*.bias", FreezeRule::all())?;
    for (path, owners) in KERNELS.iter().zip(&mut owners) {
        t.replace_mask(path, owners.frozen_for(2), ZeroState)?;
        owners.claim(&owners.mask_of(0), 2)?;
    }
    train(&mut t, &task(&data, 1)?, 12)?;
    proved(&t)?;
    let second = t.evaluate(&task(&test, 1)?)?;
    let after = first_task_alone(&gpu, &t, &owners)?.evaluate(&task(&test, 0)?)?;
    println!("task 1 after task 1: {before}\ntask 1 after task 2: {after}");
    println!("task 2: {second} (before it was trained {untrained:.4})");
    ensure(before.accuracy() > 0.9 && second.accuracy() > 0.85, "both tasks are learned")?;
    ensure(before == after, "accuracy and loss of task 1 are exactly as before")
}
