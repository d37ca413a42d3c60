//! Tests of GEMM with cooperative matrices, on adapters that support them. `tests/op_table.rs` compares such
//! GEMMs with the reference on operands that are exact in f16; these tests cover operands that are rounded to
//! f16, and whole training runs.

use crate::support::compare::{assert_relative, largest};
use crate::support::device::gpu;
use crate::support::skip;
use crate::support::training::{assert_frozen, snapshot};
use frazil::low_level::GemmFamily;
use frazil::low_level::{DType, Graph, Op, StepScalars};
use frazil::low_level::{Plan, PlanOptions};
use frazil::{
    Dataset, Digits, Error, FreezeRule, Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions,
};

const PATHS: [&str; 4] = ["conv1.kernel", "conv2.kernel", "fc1.kernel", "fc2.kernel"];

/// Returns the cooperative-matrix GEMM family, or prints a message and returns `None` if the adapter does not
/// support it.
fn family() -> Option<GemmFamily> {
    let family = GemmFamily::cooperative(gpu().report());
    if family.is_none() {
        skip("cooperative", &format!("{} does not support cooperative matrices", gpu().report().name));
    }
    family
}

/// Computes `a * b`, with `a` of shape `[m, k]` and `b` of `[k, n]`, in the given GEMM family.
fn multiply([m, n, k]: [usize; 3], a: &[f32], b: &[f32], family: GemmFamily) -> Vec<f32> {
    let mut graph = Graph::new(m).unwrap();
    let left = graph.batch_input("a", &[k], DType::F32).unwrap();
    let right = graph.input("b", frazil::low_level::Shape::new([k, n]).unwrap(), DType::F32);
    let op = Op::MatMul { transpose_a: false, transpose_b: false };
    let result = graph.push(op, &[left, right], "gemm").unwrap()[0];
    graph.mark_output(result).unwrap();
    let plan = Plan::compile(gpu(), &graph, &PlanOptions::default().family(family)).unwrap();
    plan.write_f32(left, a).unwrap();
    plan.write_f32(right, b).unwrap();
    plan.run(StepScalars::forward(m)).unwrap();
    plan.read_f32(result).unwrap()
}

#[test]
fn operands_are_rounded_to_f16_and_sums_are_f32() {
    let Some(cooperative) = family() else { return };
    let sizes = [70, 36, 100];
    let [m, n, k] = sizes;
    // All elements are positive, so that sums grow to k terms without cancellation. Accumulation in f16 would
    // then cause a far larger error than rounding the operands to f16.
    let draw = |count: usize, seed: usize| -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed) % 10_007) as f32 / 10_007.0 + 0.1).collect()
    };
    let (a, b) = (draw(m * k, 1), draw(k * n, 2));
    let worst = |family: GemmFamily| {
        let got = multiply(sizes, &a, &b, family);
        let error = |index: usize| {
            let (row, column) = (index / n, index % n);
            let want: f64 = (0..k).map(|i| f64::from(a[row * k + i]) * f64::from(b[i * n + column])).sum();
            (f64::from(got[index]) - want).abs() / want
        };
        largest((0..m * n).map(error))
    };
    let (rounded, exact) = (worst(cooperative), worst(GemmFamily::Register));
    println!("worst relative error: {cooperative} {rounded:.1e}, register {exact:.1e}");
    // Each term is a product of two operands rounded to 11 bits. Their rounding errors partly cancel in a
    // sum, but remain well above those of the f32 family.
    assert!(rounded < 2.0 / 2048.0 && rounded > 10.0 * exact && exact < 1e-6);
}

#[test]
fn frozen_weights_keep_their_bits_and_runs_are_reproducible() {
    let Some(cooperative) = family() else { return };
    let (train, test) = (Digits::train().unwrap(), Digits::test().unwrap());
    let run = |options: TrainerOptions| {
        let (model, optimizer) = (Model::digits().unwrap(), Sgd::new(0.05).momentum(0.9));
        let mut t = Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, optimizer, options).unwrap();
        t.freeze("*.kernel", FreezeRule::random(0.5)).unwrap();
        let before = snapshot(&t);
        t.step(&train.batches(32, 9).unwrap().next().unwrap()).unwrap();
        let first: Vec<_> = PATHS.iter().map(|path| t.gradient(path).unwrap()).collect();
        for epoch in 0..2 {
            for batch in train.batches_for_epoch(32, 1, epoch).unwrap() {
                t.step(&batch).unwrap();
            }
        }
        assert_frozen(&t.report().family, &t, &before);
        let count = |kernel| t.report().dispatches.iter().filter(|d| d.kernel == kernel).count();
        let kernels = [count("gemm_cooperative"), count("round_to_f16")];
        ((t.digest().unwrap(), t.evaluate(&test).unwrap().loss, first), kernels)
    };
    let options = || TrainerOptions::batch(32).seed(5).keep_gradients(true);
    let (once, kernels) = run(options().family(cooperative));
    let (again, _) = run(options().family(cooperative));
    let (stored, stored_kernels) = run(options().family(cooperative.with_stored_operands()));
    let (in_f32, kernels_f32) = run(options());
    println!("loss after two epochs: {cooperative} {:.3}, f32 {:.3}", once.1, in_f32.1);
    assert_eq!(once, again);
    // Rounding an operand once and storing it gives the same bits as rounding it in each GEMM, with fewer
    // dispatches that round than operands: two layers share them between passes.
    assert_eq!(once, stored);
    let [gemms, rounded] = stored_kernels;
    println!("{gemms} GEMMs with {rounded} rounded operands");
    assert_eq!((kernels, kernels_f32), ([gemms, 0], [0, 0]));
    assert!(rounded > 0 && rounded < 2 * gemms && once.0 != in_f32.0);
    assert!(once.1 < 1.0 && in_f32.1 < 1.0);
    for (path, (got, want)) in PATHS.iter().zip(once.2.iter().zip(&in_f32.2)) {
        let wide = |data: &[f32]| data.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        // fc2.kernel is the last kernel: its gradient is one GEMM whose operands are rounded to 11 bits.
        // Before that layer, rounding also changes the sign of some ReLU inputs and the position of some
        // maxima in max pooling. About 1 in 1000 gradient elements is then entirely wrong, which is a
        // relative L2 error of sqrt(1/1000).
        let allowed = if *path == "fc2.kernel" { 3e-3 } else { 5e-2 };
        let error = assert_relative(path, &wide(got), &wide(want), allowed);
        println!("{path}: first gradient within {error:.1e}");
    }
}

#[test]
fn cooperative_family_requires_a_device_opened_with_cooperative_matrices() {
    let plain = Gpu::new(GpuOptions::default().compile_ahead(false)).unwrap();
    assert_eq!(plain.report().cooperative_matrix, None);
    let options =
        TrainerOptions::batch(2).family(GemmFamily::Cooperative { side: 16, lanes: 32, stored: false });
    let model = Model::input([4]).dense("fc", 2).build().unwrap();
    let result_without = Trainer::new(&plain, model, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options);
    let Err(Error::InvalidArgument { expected, .. }) = result_without else {
        panic!("expected InvalidArgument, got a trainer")
    };
    assert!(expected.contains("GpuOptions::cooperative_matrix"), "{expected}");
}

/// Large gradients must not overflow f16. They are multiplied by 1024 before they are rounded to f16, and
/// therefore clamped to [-63.97, 63.97]. The loss is finite, so the update is not skipped, and the weights
/// must remain finite.
#[test]
fn large_gradients_of_a_finite_loss_leave_finite_weights() {
    let Some(cooperative) = family() else { return };
    let model = Model::input([32]).dense("fc1", 32).dense("fc2", 32).build().unwrap();
    let options = TrainerOptions::batch(16).family(cooperative);
    let mut trainer = Trainer::new(gpu(), model, Loss::MeanSquaredError, Sgd::new(1e-6), options).unwrap();
    let data = Dataset::regression("far", [32], vec![1.0; 16 * 32], [32], vec![40_000.0; 16 * 32]).unwrap();
    let before = snapshot(&trainer);
    let loss = trainer.step_loss(&data.batches(16, 1).unwrap().next().unwrap()).unwrap();
    assert!(loss.is_finite() && loss > 1e9, "{loss}");
    let after = snapshot(&trainer);
    for tensor in &after.0 {
        assert!(tensor[0].iter().all(|&bits| f32::from_bits(bits).is_finite()));
    }
    assert!(before != after);
}

/// Only gradients of a loss are multiplied by 1024. A GEMM with a transposed B may also be a forward
/// operation, whose operand of 100 would be clamped if it were scaled.
#[test]
fn gemm_with_a_transposed_operand_is_not_scaled() {
    let Some(cooperative) = family() else { return };
    let mut graph = Graph::new(32).unwrap();
    let a = graph.batch_input("a", &[32], DType::F32).unwrap();
    let b = graph.input("b", frazil::low_level::Shape::new([32, 32]).unwrap(), DType::F32);
    let op = Op::MatMul { transpose_a: false, transpose_b: true };
    let result = graph.push_one(op, &[a, b], "gemm").unwrap();
    graph.mark_output(result).unwrap();
    let plan = Plan::compile(gpu(), &graph, &PlanOptions::default().family(cooperative)).unwrap();
    plan.write_f32(a, &[100.0; 32 * 32]).unwrap();
    plan.write_f32(b, &[0.5; 32 * 32]).unwrap();
    plan.run(StepScalars::forward(32)).unwrap();
    assert_eq!(plan.read_f32(result).unwrap(), [1600.0; 32 * 32]);
}
