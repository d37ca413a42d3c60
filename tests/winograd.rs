//! Compares training steps with Winograd convolutions with the reference.

use crate::support::compare::assert_relative;
use crate::support::device::gpu;
use crate::support::random::stream;
use frazil::low_level::GemmFamily;
use frazil::low_level::Reference;
use frazil::low_level::Winograd;
use frazil::low_level::{ParameterId, StepScalars};
use frazil::low_level::{Plan, PlanOptions};
use frazil::{Loss, Mask, Model, Padding, Sgd};

const ROWS: usize = 16;

/// Builds a network with 256 Winograd tiles and 32 channels, just enough for the automatic choice of Winograd
/// on software adapters.
fn model(kernel_size: usize) -> Model {
    Model::input([14, 15, 4])
        .conv2d("conv1", 32, [kernel_size, kernel_size], |c| c.padding(Padding::Same))
        .relu()
        .conv2d("conv2", 36, [kernel_size, kernel_size], |c| c.padding(Padding::Same))
        .relu()
        .max_pool2d([2, 2])
        .flatten()
        .dense("fc", 5)
        .build()
        .unwrap()
}

/// A training step with Winograd convolutions, unfused and fused, matches the reference, and frozen elements keep
/// their bits. The second layer uses Winograd transforms of inputs, kernels and output gradients.
#[test]
fn winograd_step_matches_the_reference() {
    for kernel_size in [3, 5] {
        check_step(kernel_size);
    }
}

fn check_step(kernel_size: usize) {
    let rule = *frazil::Optimizer::from(Sgd::new(0.1).momentum(0.9)).rule();
    let training = model(kernel_size).training_graph(ROWS, Loss::SoftmaxCrossEntropy, rule).unwrap();
    let graph = &training.graph;
    let mut rng = stream(21);
    let mut draw = |count: usize, scale: f32| (0..count).map(|_| rng.normal() * scale).collect::<Vec<f32>>();
    let input = draw(ROWS * 14 * 15 * 4, 1.0);
    let weights: Vec<Vec<f32>> = graph.parameters().iter().map(|p| draw(p.shape.elements(), 0.1)).collect();
    let labels: Vec<u32> = (0..ROWS as u32).map(|i| i % 5).collect();
    // Freezes a scattered quarter of the elements of each tensor, without whole rows or columns of a kernel
    // matrix.
    let masks: Vec<Mask> = weights
        .iter()
        .map(|w| {
            Mask::from_frozen((0..w.len()).map(|i| (i as u32).wrapping_mul(2_654_435_761) >> 16 & 3 == 1))
        })
        .collect();
    let scalars = StepScalars { learning_rate: 0.1, ..StepScalars::forward(ROWS - 3) };
    let wide = |data: &[f32]| data.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();

    let mut reference = Reference::new(graph).unwrap();
    reference.write(training.input, &wide(&input)).unwrap();
    reference.write(training.labels, &labels.iter().map(|&l| f64::from(l)).collect::<Vec<_>>()).unwrap();
    let value = |parameter: usize| graph.parameter_value(ParameterId::of(parameter)).unwrap();
    for (number, data) in weights.iter().enumerate() {
        reference.write(value(number), &wide(data)).unwrap();
        reference.set_mask(ParameterId::of(number), &masks[number]).unwrap();
    }
    reference.run(scalars).unwrap();

    let families = GemmFamily::supported(gpu().report());
    for family in families {
        let run = |winograd: Winograd| {
            let options = PlanOptions::default().family(family).winograd(winograd).masks(&masks);
            let plan = Plan::compile(gpu(), graph, &options).unwrap();
            plan.write_f32(training.input, &input).unwrap();
            plan.write_u32(training.labels, &labels).unwrap();
            for (number, data) in weights.iter().enumerate() {
                let bits: Vec<u32> = data.iter().map(|x| x.to_bits()).collect();
                plan.store().write_weights(ParameterId::of(number), &bits).unwrap();
                plan.store().write_mask(ParameterId::of(number), &masks[number]).unwrap();
            }
            plan.run(scalars).unwrap();
            let kernels: Vec<_> = plan.report().dispatches.iter().map(|d| d.kernel).collect();
            let transforms = kernels.iter().filter(|k| k.starts_with("winograd")).count();
            let after: Vec<_> =
                (0..weights.len()).map(|i| plan.store().read_weights(ParameterId::of(i)).unwrap()).collect();
            (transforms, after)
        };
        assert_eq!(run(Winograd::Never).0, 0);
        // With `Winograd::Auto`, only conv2 uses Winograd (forward pass and both gradients), and only on
        // software adapters.
        let conv2 = if gpu().report().software { 3 + 3 + 3 } else { 0 };
        assert_eq!(run(Winograd::Auto).0, conv2, "{family}");
        // Each unfused operation has three transforms. Forward pass of two convolutions: kernel, input and
        // output. Two weight gradients: input, output gradient and kernel gradient. One input gradient, that
        // of conv2: three transforms. Each of the fused operations, two forward passes and an input gradient,
        // has a transform of the kernels and the fused kernel; there is none for 5x5 kernels.
        let of_fused = if kernel_size == 3 { 3 * 2 } else { 0 };
        for (winograd, want) in [(Winograd::Always, 2 * 3 + 2 * 3 + 3), (Winograd::Fused, of_fused)] {
            let name = format!("{family} {winograd:?}");
            let (transforms, after) = run(winograd);
            assert_eq!(transforms, want, "{name}");
            assert!(run(winograd).1 == after, "{name}: expected two runs with equal bits");
            for (number, (after, before)) in after.iter().zip(&weights).enumerate() {
                let path = &graph.parameters()[number].path;
                for i in masks[number].frozen_indices() {
                    assert_eq!(after[i], before[i].to_bits(), "{name} {path}: frozen element {i}");
                }
                let got: Vec<f64> = after.iter().map(|&b| f64::from(f32::from_bits(b))).collect();
                let want = reference.read(value(number));
                // Compares the changes of the weights in this step, which are much smaller than the weights.
                let change =
                    |new: &[f64]| new.iter().zip(before).map(|(a, &b)| a - f64::from(b)).collect::<Vec<_>>();
                let changed = change(want).iter().filter(|x| **x != 0.0).count();
                assert!(changed > 0, "{path}: expected changed weights");
                let error = assert_relative(&format!("{name} {path}"), &change(&got), &change(want), 1e-5);
                println!("{kernel_size}x{kernel_size} {name} {path}: {error:.1e}");
            }
        }
    }
}
