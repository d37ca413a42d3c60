//! Property tests over random shapes, strides, dilations, paddings, groups and masks. The seed is fixed, so
//! every run tests the same random cases.

use crate::adjoint::convolution_disagreement;
use crate::support::compare::check_equal;
use crate::support::device::{device, families, gpu};
use crate::support::executor::{Fault, Faulty, Make, Operand, evaluate, evaluate_one, reference};
use crate::support::random::{convolution_shapes, elements, normal, stream};
use frazil::low_level::GemmFamily;
use frazil::low_level::{Conv2d, Graph, Op, Pool2d};
use frazil::low_level::{Padding, Window};
use frazil::mask::Mask;
use frazil::{Error, FreezeRule};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

fn config(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..Config::default() }
}

/// Number of random cases of each test that runs on the device. The number is low, because each case compiles
/// plans.
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

/// Generates an image size `[rows, columns]`, a batch size and a seed for random data.
fn any_input() -> impl Strategy<Value = ([usize; 2], usize, u64)> {
    ([1..=11usize, 1..=11usize], 1..=4usize, any::<u64>())
}

/// Generates a convolution with at least one output pixel, a batch size and a seed for random data. The
/// convolution has 1 to 4 groups and may be depthwise.
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

/// Checks that each element of `got` differs from `want` by at most `(4 + sqrt(depth)) * 2^-24 *
/// sum(|a||b|)`, a bound of the f32 rounding error of a sum of `depth` products `a * b`. `sums` contains
/// `sum(|a||b|)` of each element.
///
/// # Errors
/// Names the first element beyond this bound.
fn check_rounding(got: &[f64], want: &[f64], sums: &[f64], depth: usize) -> Result<(), String> {
    let factor = (4.0 + (depth as f64).sqrt()) * 2f64.powi(-24);
    assert!(got.len() == want.len() && got.len() == sums.len());
    for (i, ((got, want), sum)) in got.iter().zip(want).zip(sums).enumerate() {
        // A comparison with NaN is false, so NaN fails.
        let near = (got - want).abs() <= factor * sum;
        if !near {
            return Err(format!("element {i}: expected {want:e} within {:e}, got {got:e}", factor * sum));
        }
    }
    Ok(())
}

/// Compares the convolution, the input gradient and the weight gradient of an executor with those of the
/// reference.
fn check_convolution(make: Make, c: Conv2d, images: usize, seed: u64) -> Result<(), String> {
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
    let absolute = |data: &[f64]| data.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let window = c.window;
    let checks = [
        (Op::Conv2d(c), (0, &x), (1, &kernel), c.depth()),
        (Op::Conv2dGradInput(c), (2, &dy), (1, &kernel), window.taps() * c.c_out_per_group()),
        (Op::Conv2dGradKernel(c), (0, &x), (2, &dy), images * window.outputs()),
    ];
    for (op, (i, a), (j, b), depth) in checks {
        let run = |make: Make, a: &[f64], b: &[f64]| {
            evaluate_one(make, op.clone(), &[operand(i, a), operand(j, b)])
        };
        let sums = run(&reference, &absolute(a), &absolute(b));
        check_rounding(&run(make, a, b), &run(&reference, a, b), &sums, depth)
            .map_err(|why| format!("{}: {why}", op.name()))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(DEVICE_CASES))]

    #[test]
    fn device_convolutions_match_the_reference((c, images, seed) in any_convolution()) {
        for family in families() {
            let on_device = move |graph: &Graph| device(graph, family);
            check_convolution(&on_device, c, images, seed)
                .map_err(|why| TestCaseError::fail(format!("{family}: {why}")))?;
        }
    }

    #[test]
    fn device_max_pools_equal_the_reference((p, images, seed) in any_pool(), ties in any::<bool>()) {
        let [h, w] = p.window.input;
        let shape = [images, h, w, p.channels];
        let mut x = normal(&mut stream(seed), elements(&shape));
        if ties {
            x.iter_mut().for_each(|x| *x = x.round());
        }
        // Pooling does not use a GEMM, so one family suffices: the kernel is the same in all.
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
    fn reference_gradients_are_adjoint((c, images, seed) in any_convolution()) {
        let difference = convolution_disagreement(&reference, c, images, &mut stream(seed));
        prop_assert!(difference < 1e-13, "{difference:e}");
    }

    #[test]
    fn masks_obey_the_laws_of_sets(flags in prop::collection::vec(any::<[bool; 3]>(), 0..150)) {
        let [a, b, c] = [0, 1, 2].map(|i| Mask::from_frozen(flags.iter().map(|f| f[i])));
        let (none, all) = (Mask::none(flags.len()).unwrap(), Mask::all(flags.len()).unwrap());
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
        // Also compares element by element, because the laws above would also hold with union and
        // intersection exchanged.
        for (index, [x, y, _]) in flags.iter().enumerate() {
            prop_assert_eq!(or(&a, &b).is_frozen(index), x | y);
            prop_assert_eq!(and(&a, &b).is_frozen(index), x & y);
            prop_assert_eq!(a.complement().is_frozen(index), !x);
        }
        let longer = Mask::none(flags.len() + 1).unwrap();
        let rejected = matches!(a.union(&longer), Err(Error::MaskMismatch { .. }));
        prop_assert!(rejected);
    }

    #[test]
    fn masks_survive_conversion_to_indices_and_words(flags in prop::collection::vec(any::<bool>(), 0..150)) {
        let mask = Mask::from_frozen(flags.iter().copied());
        prop_assert_eq!(&Mask::from_trainable(flags.iter().map(|f| !f)), &mask);
        prop_assert_eq!((0..flags.len()).map(|i| mask.is_frozen(i)).collect::<Vec<_>>(), flags.clone());
        prop_assert_eq!(&Mask::from_words(mask.words().to_vec(), mask.len()).unwrap(), &mask);
        // Clears the unused bits of the last word: `Mask::from_words` must ignore bits beyond the last
        // element.
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
    fn random_rules_freeze_exact_counts(len in 0..400usize, fraction in 0.0..=1.0f64, seed in any::<u64>()) {
        let mask = FreezeRule::random(fraction).seed(seed).resolve("conv1.kernel", len).unwrap();
        prop_assert_eq!(mask.len(), len);
        let difference = (mask.frozen_count() as f64 - fraction * len as f64).abs();
        prop_assert!(difference <= 0.5, "{} of {len} frozen for {fraction}", mask.frozen_count());
        // Resolving the rule again selects the same elements: the selection depends on seed and path only.
        prop_assert_eq!(&FreezeRule::random(fraction).seed(seed).resolve("conv1.kernel", len).unwrap(), &mask);
    }
}

#[test]
fn convolution_check_fails_on_an_injected_fault() {
    for op in ["conv2d", "conv2d_grad_input", "conv2d_grad_kernel"] {
        let make = move |graph: &Graph| Faulty::boxed(&reference, graph, Fault::Scale { op, factor: 1.0001 });
        let check =
            |(c, images, seed)| check_convolution(&make, c, images, seed).map_err(TestCaseError::fail);
        assert!(TestRunner::new(config(DEVICE_CASES)).run(&any_convolution(), check).is_err(), "{op}");
    }
}
