//! Tests of masks and of every rule: exact counts, ties, tensors shorter than a group, errors and text forms;
//! tests of schedules and owners.

use super::*;
use crate::tensor_file::{Checkpoint, Tensor};

fn resolve(
    rule: &FreezeRule,
    shape: &[usize],
    weights: &[f32],
    frozen: &Mask,
) -> crate::error::Result<Vec<usize>> {
    let bits: Vec<u32> = weights.iter().map(|w| w.to_bits()).collect();
    let view = TensorView { path: "t", shape, bits: Some(&bits), frozen };
    Ok(rule.resolve_all(&[view])?[0].frozen_indices().collect())
}

fn pick(rule: FreezeRule, shape: &[usize], weights: &[f32]) -> Vec<usize> {
    resolve(&rule, shape, weights, &Mask::none(weights.len()).unwrap()).unwrap()
}

#[test]
fn mask_polarity_and_tail_bits() {
    let m = Mask::from_frozen((0..37).map(|i| i % 3 == 0));
    assert_eq!((m.len(), m.frozen_count(), m.words().len()), (37, 13, 2));
    assert!(m.is_frozen(36) && !m.is_frozen(35) && !m.is_frozen(37));
    assert_eq!(m.words()[1] >> 5, u32::MAX >> 5);
    assert_eq!(Mask::from_trainable((0..37).map(|i| i % 3 != 0)), m);
    assert_eq!(m.complement().frozen_count(), 24);
    assert_eq!(m.complement().complement(), m);
    assert_eq!(m.frozen_indices().count(), 13);
}

#[test]
fn mask_set_operations() {
    let a = Mask::from_frozen([true, true, false, false]);
    let b = Mask::from_frozen([true, false, true, false]);
    assert_eq!(a.union(&b).unwrap(), Mask::from_frozen([true, true, true, false]));
    assert_eq!(a.intersection(&b).unwrap(), Mask::from_frozen([true, false, false, false]));
    assert_eq!(a.difference(&b).unwrap(), Mask::from_frozen([false, true, false, false]));
    assert!(matches!(a.union(&Mask::none(5).unwrap()), Err(Error::MaskMismatch { expected: 4, got: 5, .. })));
    assert_eq!(Mask::all(70).unwrap().frozen_count(), 70);
    assert_eq!(Mask::none(64).unwrap().frozen_count(), 0);
}

#[test]
fn random_selects_the_exact_count_and_depends_on_seed_and_path() {
    let rule = FreezeRule::random(0.5).seed(42);
    let mask = rule.resolve("conv1.kernel", 144).unwrap();
    assert_eq!(mask.frozen_count(), 72);
    assert_eq!(mask, rule.resolve("conv1.kernel", 144).unwrap());
    assert_ne!(mask, rule.resolve("conv2.kernel", 144).unwrap());
    assert_ne!(mask, rule.clone().seed(43).resolve("conv1.kernel", 144).unwrap());
}

#[test]
fn magnitude_counts_are_exact_under_ties_and_nan_is_largest() {
    let w = [0.5, -0.0, 3.0, -0.5, 0.0, f32::NAN, f32::NEG_INFINITY, 0.5];
    assert_eq!(pick(FreezeRule::smallest(0.25), &[8], &w), [1, 4]);
    assert_eq!(pick(FreezeRule::smallest(0.5), &[8], &w), [0, 1, 3, 4]);
    assert_eq!(pick(FreezeRule::largest(0.25), &[8], &w), [5, 6]);
    assert_eq!(pick(FreezeRule::largest(0.5), &[8], &w), [0, 2, 5, 6]);
    for count in 0..=8 {
        assert_eq!(
            pick(FreezeRule::smallest(0.0).count(count), &[8], &[1.0; 8]),
            (0..count).collect::<Vec<_>>()
        );
        assert_eq!(
            pick(FreezeRule::largest(0.0).count(count), &[8], &[1.0; 8]),
            (0..count).collect::<Vec<_>>()
        );
    }
    let nine = FreezeRule::smallest(0.0).count(9);
    assert!(matches!(resolve(&nine, &[8], &w, &Mask::none(8).unwrap()), Err(Error::InvalidArgument { .. })));
    assert_eq!(pick(FreezeRule::smallest(1.0), &[0], &[]), [0; 0]);
    assert_eq!(pick(FreezeRule::smallest(0.5), &[1], &[2.0]), [0]);
    assert!(FreezeRule::smallest(0.5).resolve("t", 4).is_err(), "without weights");
}

#[test]
fn selection_among_trainable_and_frozen_elements() {
    let frozen = Mask::from_frozen((0..8).map(|i| i < 4));
    let w = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
    let selected = |rule: FreezeRule| resolve(&rule, &[8], &w, &frozen).unwrap();
    assert_eq!(selected(FreezeRule::smallest(0.5).among_trainable()), [4, 5]);
    assert_eq!(selected(FreezeRule::largest(0.5).among_frozen()), [2, 3]);
    assert_eq!(selected(FreezeRule::largest(0.25).among_frozen().scores([9.0; 8])), [0]);
    let random = selected(FreezeRule::random(0.75).among_trainable());
    assert!(random.len() == 3 && random.iter().all(|&i| i >= 4), "{random:?}");
    assert!(resolve(&FreezeRule::all().among_frozen(), &[8], &w, &frozen).is_err());
    assert!(resolve(&FreezeRule::random(0.5).global(), &[8], &w, &frozen).is_err());
    assert!(resolve(&FreezeRule::largest(0.5).scores([1.0; 7]), &[8], &w, &frozen).is_err());
}

#[test]
fn top_scores_are_not_selected() {
    let (fa, fb) = (Mask::from_frozen([true, false, false, false]), Mask::none(2).unwrap());
    let (a, b) = ([0; 4], [0; 2]);
    let views = [
        TensorView { path: "a", shape: &[4], bits: Some(&a), frozen: &fa },
        TensorView { path: "b", shape: &[2], bits: Some(&b), frozen: &fb },
    ];
    let scores = [("b".to_owned(), vec![-3.0, 0.5]), ("a".to_owned(), vec![9.0, 1.0, -2.0, 0.0])];
    let top = |fraction| FreezeRule::top_score(fraction, Score::Gradient).scores_by_path(scores.clone());
    let selected = |rule: FreezeRule| -> Vec<Vec<usize>> {
        rule.resolve_all(&views).unwrap().iter().map(|mask| mask.frozen_indices().collect()).collect()
    };
    assert_eq!(selected(top(0.5)), [vec![1, 3], vec![1]]);
    assert_eq!(selected(top(0.5).global()), [vec![1, 3], vec![1]]);
    assert_eq!(selected(top(0.0).count(2).global()), [vec![1, 2, 3], vec![1]]);
    assert_eq!(selected(top(0.0).count(1).among_trainable()), [vec![1, 3], vec![1]]);
    assert!(selected(top(1.0)).concat().is_empty());
    assert_eq!(selected(FreezeRule::smallest(0.5).scores_by_path(scores.clone())), [vec![1, 3], vec![1]]);
    let refused = |rule: FreezeRule, part: &str| {
        let error = rule.resolve_all(&views).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let rule = FreezeRule::top_score(0.5, Score::SquaredGradient);
    assert_eq!(rule.needs_scores(), Some(Score::SquaredGradient));
    assert_eq!(top(0.5).needs_scores(), None);
    refused(rule, "Trainer::scores");
    refused(top(0.5).scores_by_path([("a".to_owned(), vec![0.0; 4])]), "scores of b");
    let short = [("a".to_owned(), vec![0.0; 3]), ("b".to_owned(), vec![0.0; 2])];
    refused(top(0.5).scores_by_path(short), "4 scores");
    refused(FreezeRule::all().scores([1.0]), "top score only");
}

#[test]
fn top_moved_weights_differ_most_from_those_of_a_file() {
    let file = std::env::temp_dir().join(format!("frazil-top-moved-{}.safetensors", std::process::id()));
    let mut checkpoint = Checkpoint::default();
    let bits = [1.0f32, -2.0, 3.0, 4.0].map(f32::to_bits).to_vec();
    checkpoint.push("a".to_owned(), Tensor::f32_bits(vec![2, 2], bits));
    checkpoint.write(&file).unwrap();
    let now = [1.5f32, 2.0, 3.0, 4.25].map(f32::to_bits);
    let frozen = Mask::none(4).unwrap();
    let view = |path, shape| TensorView { path, shape, bits: Some(&now), frozen: &frozen };
    let rule = FreezeRule::top_moved(0.5, &file);
    assert!(rule.needs_weights());
    let masks = rule.resolve_all(&[view("a", &[2, 2])]).unwrap();
    assert_eq!(masks[0].frozen_indices().collect::<Vec<_>>(), [2, 3]);
    for (path, shape, part) in [("b", &[2, 2][..], "b: expected F32"), ("a", &[4][..], "of shape [2, 2]")] {
        let error = rule.resolve_all(&[view(path, shape)]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(FreezeRule::top_moved(0.5, "no/such/file").resolve_all(&[view("a", &[2, 2])]).is_err());
    std::fs::remove_file(file).unwrap();
}

#[test]
fn global_magnitudes_share_one_count() {
    let (a, b) = ([1.0_f32, 9.0, 2.0].map(f32::to_bits), [2.0_f32, 0.5, 8.0, 7.0, 2.0].map(f32::to_bits));
    let (fa, fb) = (Mask::none(3).unwrap(), Mask::none(5).unwrap());
    let views = [
        TensorView { path: "a", shape: &[3], bits: Some(&a), frozen: &fa },
        TensorView { path: "b", shape: &[5], bits: Some(&b), frozen: &fb },
    ];
    let masks = FreezeRule::smallest(0.5).global().resolve_all(&views).unwrap();
    assert_eq!(masks[0].frozen_indices().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(masks[1].frozen_indices().collect::<Vec<_>>(), [0, 1]);
    let each = FreezeRule::smallest(0.5).resolve_all(&views).unwrap();
    assert_eq!((each[0].frozen_count(), each[1].frozen_count()), (2, 3));
}

#[test]
fn n_of_m_keeps_n_along_the_input_channels() {
    // A kernel of shape [1, 1, 5, 2], HWIO: 5 input channels, 2 output channels. With m = 4, each output
    // channel has one complete group (input channels 0 to 3) and one incomplete group (input channel 4).
    let w = [4.0, 1.0, -3.0, 1.0, 2.0, 1.0, 1.0, 1.0, 0.1, 9.0];
    let got = pick(FreezeRule::n_of_m(2, 4), &[1, 1, 5, 2], &w);
    // Element indices are `2 * input + output`. Output 0: input channels 2 and 3 have the smallest
    // magnitudes. Output 1: all four are equal, and the tie goes to input channels 0 and 1. The incomplete
    // group keeps input channel 4.
    assert_eq!(got, [1, 3, 4, 6]);
    let all = pick(FreezeRule::n_of_m(0, 4), &[1, 1, 5, 2], &w);
    assert_eq!(all.len(), 10);
    for bad in [FreezeRule::n_of_m(3, 2), FreezeRule::n_of_m(0, 0)] {
        assert!(resolve(&bad, &[5, 2], &w, &Mask::none(10).unwrap()).is_err());
    }
    assert!(resolve(&FreezeRule::n_of_m(1, 2), &[10], &w, &Mask::none(10).unwrap()).is_err());
}

#[test]
fn filters_input_channels_kernel_positions_and_blocks() {
    let w: Vec<f32> = (0..24).map(|i| if i % 3 == 1 { 0.1 } else { 1.0 }).collect();
    let shape = [2, 2, 2, 3];
    let filter = pick(FreezeRule::filters(0.34), &shape, &w);
    assert_eq!(filter, (0..8).map(|i| 3 * i + 1).collect::<Vec<_>>());
    assert_eq!(pick(FreezeRule::filters_at([1]), &shape, &w), filter);
    assert_eq!(pick(FreezeRule::filters(0.34).norm(Norm::L1), &shape, &w), filter);
    let random = pick(FreezeRule::filters(0.67).norm(Norm::Random).seed(3), &shape, &w);
    assert_eq!(random.len(), 16);
    assert_eq!(pick(FreezeRule::filters_at([2]), &[3], &w[..3]), [2], "a bias");
    let channel = pick(FreezeRule::input_channels_at([1]), &shape, &w);
    assert_eq!(channel, [3, 4, 5, 9, 10, 11, 15, 16, 17, 21, 22, 23]);
    assert_eq!(pick(FreezeRule::input_channels(0.5), &shape, &w), [0, 1, 2, 6, 7, 8, 12, 13, 14, 18, 19, 20]);
    assert_eq!(pick(FreezeRule::kernel_position(1, 0), &shape, &w), (12..18).collect::<Vec<_>>());
    assert_eq!(pick(FreezeRule::block([0..1, 1..2, 0..2, 2..3]), &shape, &w), [8, 11]);
    for bad in [
        FreezeRule::filters_at([3]),
        FreezeRule::input_channels_at([2]),
        FreezeRule::kernel_position(2, 0),
        FreezeRule::block([0..1, 0..1]),
        FreezeRule::block([0..1, 1..3, 0..2, 2..3]),
        FreezeRule::mask(Mask::all(5).unwrap()),
    ] {
        assert!(resolve(&bad, &shape, &w, &Mask::none(24).unwrap()).is_err(), "{bad:?}");
    }
}

#[test]
fn where_equal_compares_bits_and_treats_both_zeros_as_equal() {
    let nan = f32::from_bits(0x7fc0_1234);
    let w = [0.0, -0.0, 1.0, nan, f32::from_bits(0x7fc0_0001), f32::from_bits(1), 1.0];
    assert_eq!(pick(FreezeRule::where_equal(-0.0), &[7], &w), [0, 1]);
    assert_eq!(pick(FreezeRule::where_equal(1.0), &[7], &w), [2, 6]);
    assert_eq!(pick(FreezeRule::where_equal(nan), &[7], &w), [3]);
}

#[test]
fn from_file_reads_u8_bool_and_packed_masks() {
    use safetensors::tensor::{Dtype, TensorView as File};
    let path = std::env::temp_dir().join(format!("frazil-mask-{}.safetensors", std::process::id()));
    let mask = Mask::from_frozen((0..37).map(|i| i % 3 == 0));
    let bytes: Vec<u8> = (0..37).map(|i| u8::from(i % 3 == 0)).collect();
    let words: Vec<u8> = mask.words().iter().flat_map(|w| w.to_le_bytes()).collect();
    let views = [
        ("u8", File::new(Dtype::U8, vec![37], &bytes).unwrap()),
        ("bool", File::new(Dtype::BOOL, vec![37], &bytes).unwrap()),
        ("mask.t", File::new(Dtype::U32, vec![2], &words).unwrap()),
        ("i8", File::new(Dtype::I8, vec![37], &bytes).unwrap()),
    ];
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let expected: Vec<usize> = mask.frozen_indices().collect();
    for name in ["u8", "bool", "mask.*"] {
        assert_eq!(pick(FreezeRule::from_file(&path, name), &[37], &[0.0; 37]), expected, "{name}");
    }
    let read = |name: &str, len: usize| {
        resolve(&FreezeRule::from_file(&path, name), &[len], &vec![0.0; len], &Mask::none(len).unwrap())
    };
    assert!(matches!(read("i8", 37), Err(Error::Checkpoint { .. })));
    assert!(matches!(read("absent", 37), Err(Error::Checkpoint { .. })));
    assert!(matches!(read("u8", 36), Err(Error::MaskMismatch { expected: 36, got: 37, .. })));
    assert!(matches!(read("mask.t", 65), Err(Error::MaskMismatch { expected: 3, got: 2, .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(read("u8", 37), Err(Error::Io { .. })));
}

#[test]
fn rules_round_trip_through_text_and_invalid_text_is_an_error() {
    for (text, rule) in [
        ("all", FreezeRule::all()),
        ("none", FreezeRule::none()),
        ("random:0.5", FreezeRule::random(0.5)),
        ("smallest:0.8:trainable", FreezeRule::smallest(0.8).among_trainable()),
        ("largest:0.1", FreezeRule::largest(0.1)),
        ("smallest-global:0.8", FreezeRule::smallest(0.8).global()),
        ("n-of-m:2:4", FreezeRule::n_of_m(2, 4)),
        ("filters:0.5", FreezeRule::filters(0.5)),
        ("filters:0.5:l1", FreezeRule::filters(0.5).norm(Norm::L1)),
        ("filters:at:0,2", FreezeRule::filters_at([0, 2])),
        ("input-channels:0.25:random", FreezeRule::input_channels(0.25).norm(Norm::Random)),
        ("position:1,1", FreezeRule::kernel_position(1, 1)),
        ("block:0..3,1..2", FreezeRule::block([0..3, 1..2])),
        ("equal:0", FreezeRule::where_equal(0.0)),
        ("top-score:0.1:gradient", FreezeRule::top_score(0.1, Score::Gradient)),
        (
            "top-score-global:0.1:squared-gradient",
            FreezeRule::top_score(0.1, Score::SquaredGradient).global(),
        ),
        (
            "top-score:0.1:weight-gradient:trainable",
            FreezeRule::top_score(0.1, Score::WeightGradient).among_trainable(),
        ),
        ("top-moved:0.1:C:\\m.safetensors", FreezeRule::top_moved(0.1, "C:\\m.safetensors")),
        ("top-moved-global:0.1:m", FreezeRule::top_moved(0.1, "m").global()),
        ("file:C:\\m.safetensors:mask.*", FreezeRule::from_file("C:\\m.safetensors", "mask.*")),
    ] {
        assert_eq!(text.parse::<FreezeRule>().unwrap(), rule, "{text}");
        assert_eq!(rule.to_string(), text);
    }
    for unparsable in [
        FreezeRule::mask(Mask::all(3).unwrap()),
        FreezeRule::random(0.5).count(2),
        FreezeRule::smallest(0.5).among_frozen(),
        FreezeRule::largest(0.5).scores([1.0]),
        FreezeRule::largest(0.5).scores_by_path([("a".to_owned(), vec![1.0])]),
    ] {
        assert!(unparsable.to_string().parse::<FreezeRule>().is_err(), "{unparsable}");
    }
    for bad in [
        "",
        "some",
        "random",
        "random:",
        "random:1.5",
        "random:nan",
        "all:1",
        "n-of-m:3:2",
        "filters:0.5:l3",
        "position:1",
        "block:1",
        "file:x",
        "smallest:0.5:frozen",
        "smallest:0.5:gradient",
        "top-score:1.5",
        "top-score:0.5:hessian",
        "top-moved:0.5",
        "top-moved:0.5:",
        "equal:x",
        "filters:at:",
    ] {
        let error = bad.parse::<FreezeRule>().unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains("n-of-m:N:M"),
            "{bad}"
        );
    }
}

#[test]
fn mask_schedules_return_fractions_at_their_steps() {
    let s = "polynomial:final=0.9,begin=10,end=35,every=10".parse::<MaskSchedule>().unwrap();
    let due: Vec<u64> = (0..60).filter(|&step| s.at(step).is_some()).collect();
    assert_eq!(due, [10, 20, 30, 35]);
    assert_eq!((s.at(10), s.at(35)), (Some(0.0), Some(0.9)));
    assert!((s.at(20).unwrap() - (0.9 - 0.9 * 0.6_f64.powi(3))).abs() < 1e-12);
    let c = MaskSchedule::cosine(0.3).end(100).every(50);
    assert!((c.at(0).unwrap() - 0.3).abs() < 1e-12 && (c.at(50).unwrap() - 0.15).abs() < 1e-12);
    assert!(c.at(100).unwrap().abs() < 1e-12 && c.at(101).is_none());
    assert_eq!(MaskSchedule::constant(0.2).every(3).at(6), Some(0.2));
    assert_eq!(MaskSchedule::custom(|step| step as f64).at(4), Some(4.0));
    assert_eq!(MaskSchedule::polynomial(0.1, 0.5).begin(5).end(5).at(5), Some(0.5));
    for schedule in [s, c, MaskSchedule::constant(0.5).begin(3)] {
        let text = schedule.to_string();
        assert_eq!(text.parse::<MaskSchedule>().unwrap().to_string(), text);
    }
    for bad in [
        "",
        "linear:final=1",
        "polynomial:final=0.9",
        "polynomial:final=2,end=5",
        "cosine:fraction=0.1,end=5,every=0",
        "constant:fraction=0.1,begin=5,end=4",
        "constant:fraction=0.1,fraction=0.2",
        "constant:final=0.1",
    ] {
        assert!(bad.parse::<MaskSchedule>().is_err(), "{bad}");
    }
}

#[test]
fn owners_separate_tasks() {
    let mut owners = Owners::new(6).unwrap();
    let first = Mask::from_frozen([true, true, false, false, false, false]);
    let second = Mask::from_frozen([false, false, true, false, false, false]);
    owners.claim(&first, 1).unwrap();
    owners.claim(&second, 2).unwrap();
    assert_eq!((owners.mask_of(1), owners.mask_of(2)), (first.clone(), second.clone()));
    assert_eq!(owners.mask_of(0).frozen_count(), 3);
    assert_eq!((owners.frozen_for(1), owners.frozen_for(2)), (second.clone(), first.clone()));
    assert_eq!(owners.frozen_for(3), first.union(&second).unwrap());
    let before = owners.clone();
    assert!(owners.claim(&Mask::from_frozen([false, false, true, true, true, true]), 1).is_err());
    assert!(owners.claim(&second, 0).is_err() && owners.claim(&Mask::all(5).unwrap(), 1).is_err());
    assert_eq!((owners == before, owners.owner(2), owners.owner(3), owners.owner(99)), (true, 2, 0, 0));
}
