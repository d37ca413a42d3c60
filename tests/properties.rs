//! What must hold for any shape, stride, dilation, padding, group and mask. A failure is shrunk to a small one; the draws
//! are the same in every run.

use crate::adjoint::convolution_disagreement;
use crate::support::compare::check_equal;
use crate::support::device::{device, gpu};
use crate::support::executor::{Executor, Fault, Operand, Planted, evaluate, evaluate_one, reference};
use crate::support::random::{convolution_shapes, elements, normal, stream};
use frazil::graph::{Conv2d, Graph, Op, Pool2d};
use frazil::kernels::GemmFamily;
use frazil::mask::Mask;
use frazil::shape::{Padding, Window};
use frazil::{Error, FreezeRule};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

fn config(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..Config::default() }
}

/// Cases on the device: each compiles a plan.
const DEVICE_CASES: u32 = 24;

fn any_padding() -> impl Strategy<Value = Padding> {
    let explicit = [0..4usize, 0..4usize, 0..4usize, 0..4usize]
        .prop_map(|[top, bottom, left, right]| Padding::Explicit { top, bottom, left, right });
    prop_oneof![Just(Padding::Same), Just(Padding::Valid), explicit]
}

fn any_window() -> impl Strategy<Value = Window> {
    let pair = |most: usize| [1..=most, 1..=most];
    (pair(5), pair(4), pair(3), any_padding()).prop_map(|(kernel, stride, dilation, padding)| Window {
        kernel,
        stride,
        dilation,
        padding,
    })
}

/// Rows, columns, images of a batch, and the seed of the data.
fn any_input() -> impl Strategy<Value = ([usize; 2], usize, u64)> {
    ([1..=11usize, 1..=11usize], 1..=4usize, any::<u64>())
}

/// A convolution that has an output, with a batch size and a seed. Groups are from 1 to 4, depthwise among them.
fn any_convolution() -> impl Strategy<Value = (Conv2d, usize, u64)> {
    (any_input(), any_window(), 1..=4usize, [1..=5usize, 1..=5usize]).prop_filter_map(
        "a window without an output",
        |((input, batch, seed), window, groups, [c_in, c_out])| {
            let images = [input[0], input[1], groups * c_in];
            Conv2d::new(images, groups * c_out, window, groups, "random").ok().map(|c| (c, batch, seed))
        },
    )
}

fn any_pool() -> impl Strategy<Value = (Pool2d, usize, u64)> {
    (any_input(), any_window(), 1..=9usize).prop_filter_map(
        "a window without an output",
        |((input, batch, seed), window, channels)| {
            window.on(input, "random").ok().map(|window| (Pool2d { window, channels }, batch, seed))
        },
    )
}

/// The first element that is off by more than rounding allows: `(4 + sqrt(depth)) * 2^-24 * sum(|a||b|)`, where `sums`
/// holds the sums of products of sizes.
fn beyond_rounding(got: &[f64], want: &[f64], sums: &[f64], depth: usize) -> Result<(), String> {
    let factor = (4.0 + (depth as f64).sqrt()) * 2f64.powi(-24);
    assert!(got.len() == want.len() && got.len() == sums.len());
    for (at, ((got, want), sum)) in got.iter().zip(want).zip(sums).enumerate() {
        // Written so that NaN fails.
        let near = (got - want).abs() <= factor * sum;
        if !near {
            return Err(format!("element {at} is {got:e}, expected {want:e} within {:e}", factor * sum));
        }
    }
    Ok(())
}

/// Convolution and both gradients of an executor against the reference.
fn convolution_agrees(
    make: &dyn Fn(&Graph) -> Box<dyn Executor>,
    c: Conv2d,
    images: usize,
    seed: u64,
) -> Result<(), String> {
    let mut data = stream(seed);
    let shapes = convolution_shapes(&c, images);
    let [x, kernel, dy] = [0, 1, 2].map(|i| normal(&mut data, elements(&shapes[i])));
    let operand = |i: usize, data: &[f64]| {
        if i == 1 {
            Operand::fixed(&shapes[i], data.to_vec())
        } else {
            Operand::batch(&shapes[i], data.to_vec())
        }
    };
    let size = |data: &[f64]| data.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let window = c.window;
    let checks = [
        (Op::Conv2d(c), (0, &x), (1, &kernel), c.depth()),
        (Op::Conv2dGradInput(c), (2, &dy), (1, &kernel), window.taps() * c.c_out_per_group()),
        (Op::Conv2dGradKernel(c), (0, &x), (2, &dy), images * window.outputs()),
    ];
    for (op, (i, a), (j, b), depth) in checks {
        let run = |make: &dyn Fn(&Graph) -> Box<dyn Executor>, a: &[f64], b: &[f64]| {
            evaluate_one(make, op.clone(), &[operand(i, a), operand(j, b)])
        };
        let sums = run(&reference, &size(a), &size(b));
        beyond_rounding(&run(make, a, b), &run(&reference, a, b), &sums, depth)
            .map_err(|why| format!("{}: {why}", op.name()))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(DEVICE_CASES))]

    #[test]
    fn the_device_convolves_as_the_reference((c, images, seed) in any_convolution()) {
        let family = GemmFamily::choose(gpu().report());
        let on_device = move |graph: &Graph| device(graph, family);
        convolution_agrees(&on_device, c, images, seed).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn the_device_pools_as_the_reference((p, images, seed) in any_pool(), ties in any::<bool>()) {
        let [h, w] = p.window.input;
        let shape = [images, h, w, p.channels];
        let mut x = normal(&mut stream(seed), elements(&shape));
        if ties {
            x.iter_mut().for_each(|x| *x = x.round());
        }
        let family = GemmFamily::choose(gpu().report());
        let x = [Operand::batch(&shape, x)];
        let got = evaluate(&|graph: &Graph| device(graph, family), Op::MaxPool2d(p), &x);
        let want = evaluate(&reference, Op::MaxPool2d(p), &x);
        for (what, got, want) in [("maximum", &got[0], &want[0]), ("position", &got[1], &want[1])] {
            check_equal(what, got, want).map_err(TestCaseError::fail)?;
        }
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn gradients_of_the_reference_are_adjoint((c, images, seed) in any_convolution()) {
        let off = convolution_disagreement(&reference, c, images, &mut stream(seed));
        prop_assert!(off < 1e-13, "{off:e}");
    }

    #[test]
    fn masks_are_sets(flags in prop::collection::vec(any::<[bool; 3]>(), 0..150)) {
        let [a, b, c] = [0, 1, 2].map(|i| Mask::from_frozen(flags.iter().map(|f| f[i])));
        let (none, all) = (Mask::none(flags.len()), Mask::all(flags.len()));
        let or = |a: &Mask, b: &Mask| a.union(b).unwrap();
        let and = |a: &Mask, b: &Mask| a.intersection(b).unwrap();
        prop_assert_eq!(or(&a, &b), or(&b, &a));
        prop_assert_eq!(and(&a, &b), and(&b, &a));
        prop_assert_eq!(or(&or(&a, &b), &c), or(&a, &or(&b, &c)));
        prop_assert_eq!(and(&and(&a, &b), &c), and(&a, &and(&b, &c)));
        prop_assert_eq!(and(&a, &or(&b, &c)), or(&and(&a, &b), &and(&a, &c)));
        prop_assert_eq!(or(&a, &and(&a, &b)), a.clone());
        prop_assert_eq!(or(&a, &b).complement(), and(&a.complement(), &b.complement()));
        prop_assert_eq!(a.difference(&b).unwrap(), and(&a, &b.complement()));
        prop_assert_eq!(a.complement().complement(), a.clone());
        prop_assert_eq!((or(&a, &none), and(&a, &all)), (a.clone(), a.clone()));
        prop_assert_eq!((or(&a, &a.complement()), and(&a, &a.complement())), (all, none));
        let count = |m: &Mask| m.frozen_count();
        prop_assert_eq!(count(&or(&a, &b)) + count(&and(&a, &b)), count(&a) + count(&b));
        // Element by element, which the laws alone do not fix.
        for (index, [x, y, _]) in flags.iter().enumerate() {
            prop_assert_eq!(or(&a, &b).is_frozen(index), x | y);
            prop_assert_eq!(and(&a, &b).is_frozen(index), x & y);
            prop_assert_eq!(a.complement().is_frozen(index), !x);
        }
        let longer = Mask::none(flags.len() + 1);
        let refused = matches!(a.union(&longer), Err(Error::MaskMismatch { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn masks_come_back(flags in prop::collection::vec(any::<bool>(), 0..150)) {
        let mask = Mask::from_frozen(flags.iter().copied());
        prop_assert_eq!(&Mask::from_trainable(flags.iter().map(|f| !f)), &mask);
        prop_assert_eq!((0..flags.len()).map(|i| mask.is_frozen(i)).collect::<Vec<_>>(), flags.clone());
        prop_assert_eq!(&Mask::from_words(mask.words().to_vec(), mask.len()).unwrap(), &mask);
        // Whatever the bits beyond the end.
        let mut words = mask.words().to_vec();
        if let (Some(last), rest @ 1..) = (words.last_mut(), flags.len() % 32) {
            *last &= !(u32::MAX << rest);
        }
        prop_assert_eq!(&Mask::from_words(words, mask.len()).unwrap(), &mask);
        let indices: Vec<_> = (0..flags.len()).filter(|&i| flags[i]).collect();
        prop_assert_eq!(mask.frozen_count(), indices.len());
        prop_assert_eq!(mask.frozen_indices().collect::<Vec<_>>(), indices);
        prop_assert!(!mask.is_frozen(flags.len()) && mask.len() == flags.len());
    }

    #[test]
    fn random_rules_freeze_exact_counts(len in 0..400usize, wanted in 0.0..=1.0f64, seed in any::<u64>()) {
        let mask = FreezeRule::random(wanted).seed(seed).resolve("conv1.kernel", len).unwrap();
        prop_assert_eq!(mask.len(), len);
        let off = (mask.frozen_count() as f64 - wanted * len as f64).abs();
        prop_assert!(off <= 0.5, "{} of {len} frozen for {wanted}", mask.frozen_count());
        // Drawn by seed and path alone.
        prop_assert_eq!(&FreezeRule::random(wanted).seed(seed).resolve("conv1.kernel", len).unwrap(), &mask);
    }
}

#[test]
fn a_planted_error_is_caught() {
    for op in ["conv2d", "conv2d_grad_input", "conv2d_grad_kernel"] {
        let make =
            move |graph: &Graph| Planted::boxed(&reference, graph, Fault::Scale { op, factor: 1.0001 });
        let check =
            |(c, images, seed)| convolution_agrees(&make, c, images, seed).map_err(TestCaseError::fail);
        assert!(TestRunner::new(config(DEVICE_CASES)).run(&any_convolution(), check).is_err(), "{op}");
    }
}
