//! Tests arguments and files with extreme numbers: each is a named error, not an overflow, a panic or an abort.

use crate::support::device::gpu;
use crate::support::training::{ROWS, batches, snapshot, train, trainer};
use frazil::checkpoint::{Checkpoint, Tensor};
use frazil::conformance::{Fill, Operand};
use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::layer::Init;
use frazil::low_level::{
    Conv2d, CostModel, DType, Graph, MAX_ELEMENTS, Op, Plan, PlanOptions, Pool2d, Purpose, Shape,
    StatisticsRule, Stream, Window,
};
use frazil::mask::{MaskSchedule, Owners, TensorView};
use frazil::{
    Adam, Batch, Error, FreezeRule, Gpu, GpuOptions, Loss, LrSchedule, Mask, Model, Optimizer, Padding, Sgd,
    Trainer, TrainerOptions,
};
use std::time::Duration;

/// Whether this build panics at an arithmetic overflow. Without these checks, the other tests of this file and
/// the loops of tests/soak.rs could not fail at an overflow.
#[test]
fn overflow_checks_are_on() {
    let most = std::hint::black_box(u32::MAX);
    assert!(std::panic::catch_unwind(|| most + 1).is_err());
}

#[test]
fn convolution_with_a_huge_kernel_is_refused_by_name() {
    let huge = |side: usize, c_in: usize, c_out: usize| {
        Model::input([1, 1, c_in])
            .conv2d("c", c_out, [side, side], |c| c.padding(Padding::Same))
            .global_avg_pool()
            .dense("fc", 2)
            .build()
    };
    for (side, c_in, c_out) in [(1 << 20, 1 << 30, 1), (1 << 12, 1 << 30, 1), (1 << 10, 1 << 10, 1 << 40)] {
        let error = huge(side, c_in, c_out).unwrap_err();
        assert!(matches!(&error, Error::InvalidArgument { at, .. } if at == "c"), "{error}");
        assert!(error.to_string().contains("a kernel of at most 2147483647 elements"), "{error}");
    }
    assert!(Conv2d::new([1, 1, usize::MAX], usize::MAX, Window::new([1 << 20, 1]), 1, "c").is_err());
    let mut graph = Graph::new(1 << 20).unwrap();
    assert!(graph.batch_input("x", &[usize::MAX, usize::MAX], DType::F32).is_err());
    assert!(Shape::new([usize::MAX, usize::MAX, 0]).is_err());
}

#[test]
fn no_output_channels_are_named() {
    let error = Model::input([4, 4, 1]).conv2d("c", 0, [3, 3], |c| c).build().unwrap_err().to_string();
    assert_eq!(error, "c: expected 1 output channel or more, got 0");
}

#[test]
fn masks_longer_than_any_tensor_are_refused() {
    for len in [MAX_ELEMENTS + 1, 1 << 36, usize::MAX / 64, usize::MAX] {
        for mask in [Mask::none(len), Mask::all(len), FreezeRule::all().resolve("x", len)] {
            assert!(matches!(mask, Err(Error::InvalidArgument { .. })), "{len}: {mask:?}");
        }
        for text in ["none", "random:0.5", "block:0..1"] {
            let mask = text.parse::<FreezeRule>().unwrap().resolve("x", len);
            assert!(matches!(mask, Err(Error::InvalidArgument { .. })), "{len}: {mask:?}");
        }
        assert!(Mask::from_words(vec![0], len).is_err());
    }
    for len in [usize::MAX / 64, usize::MAX] {
        assert!(matches!(Owners::new(len), Err(Error::HostMemory { .. })), "{len}");
        let mut stream = Stream::new(0, Purpose::Weights, 0);
        for init in [Init::HeNormal, Init::GlorotUniform, Init::Zeros, Init::Constant(2.0)] {
            let values = init.values("w", len, [usize::MAX; 2], &mut stream);
            assert!(matches!(values, Err(Error::HostMemory { .. })), "{len} {init:?}");
        }
    }
}

#[test]
fn views_whose_shape_overflows_are_refused() {
    let frozen = Mask::none(6).unwrap();
    let rules =
        ["all", "random:0.5", "smallest:0.5", "largest-global:0.5", "n-of-m:1:2", "filters:0.5:random"];
    let rules = rules.into_iter().chain(["position:0,0", "block:0..1", "equal:0", "input-channels:at:0"]);
    for rule in rules {
        for shape in [&[usize::MAX, 2][..], &[1 << 32, 1 << 32], &[1 << 62, 1 << 62, 16], &[3, 1 << 31, 1, 1]]
        {
            let view = TensorView { path: "x", shape, bits: Some(&[0; 6]), frozen: &frozen };
            let got = rule.parse::<FreezeRule>().unwrap().resolve_all(&[view]);
            assert!(matches!(got, Err(Error::ShapeMismatch { .. })), "{rule} {shape:?}: {got:?}");
        }
    }
    let view = TensorView { path: "x", shape: &[usize::MAX, 0, usize::MAX], bits: None, frozen: &frozen };
    assert_eq!(view.elements(), 0);
    assert!(FreezeRule::n_of_m(1, usize::MAX).to_string().parse::<FreezeRule>().is_ok());
}

#[test]
fn checkpoint_with_overflowing_counts_is_refused() {
    let folder = std::env::temp_dir().join(format!("frazil-limits-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("c.safetensors");
    let mut t = trainer(Adam::new(0.1).into(), TrainerOptions::batch(ROWS).seed(3));
    train(&mut t, 1);
    t.save(&path).unwrap();
    let good = Checkpoint::read(&path).unwrap();
    let before = snapshot(&t);
    for name in ["step", "draws"] {
        for count in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62] {
            let mut changed = good.clone();
            changed.note(name, count);
            changed.write(&path).unwrap();
            let error = t.load(&path).unwrap_err();
            assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
            assert!(error.to_string().contains(&format!("{name}: expected a count below 2^62")), "{error}");
        }
    }
    assert!(snapshot(&t) == before);
    let mut late = good.clone();
    late.note("step", (1u64 << 62) - 1);
    late.write(&path).unwrap();
    t.load(&path).unwrap();
    train(&mut t, 2);
    assert_eq!(t.steps(), (1 << 62) + 1);
    // A tensor whose shape overflows is refused when it is written, and nothing is left behind.
    let mut overflow = Checkpoint::default();
    overflow.push("t".to_owned(), Tensor::u32(vec![1 << 63, 2, 1], vec![]));
    overflow.push("u".to_owned(), Tensor::f32_bits(vec![usize::MAX, usize::MAX], vec![1]));
    let file = folder.join("overflow.safetensors");
    assert!(matches!(overflow.write(&file), Err(Error::Checkpoint { .. })));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A schedule that grows without bound, or a custom one, may give a learning rate that is no number. The step
/// that would use it is refused before anything is submitted.
#[test]
fn learning_rate_that_is_not_finite_stops_before_the_step() {
    let schedules = [
        (LrSchedule::step(1, f64::from(f32::MAX)), 1),
        (LrSchedule::custom(|t| if t < 2 { 1.0 } else { f64::NAN }), 2),
        (LrSchedule::custom(|t| 1.0 - t as f64), 2),
        (LrSchedule::custom(|_| f64::INFINITY).warm_up(3), 0),
    ];
    for (schedule, valid) in schedules {
        let optimizer = Optimizer::from(Sgd::new(10.0)).schedule(schedule);
        let mut t = trainer(optimizer, TrainerOptions::batch(ROWS).seed(3));
        let batch = batches(1).remove(0);
        let before = {
            for _ in 0..valid {
                t.step(&batch).unwrap();
            }
            t.forget_non_finite().unwrap();
            (snapshot(&t), t.steps())
        };
        let errors = [t.step(&batch).err(), t.step_loss(&batch).err(), t.profile_step(&batch).err()];
        for error in errors.into_iter().map(Option::unwrap) {
            let named = format!("learning rate at step {}", before.1);
            assert!(matches!(error, Error::InvalidArgument { .. }), "{schedule}: {error}");
            assert!(error.to_string().contains(&named), "{schedule}: {error}");
        }
        assert!((snapshot(&t), t.steps()) == before, "{schedule}");
    }
    // A factor of one parameter may overflow where the base rate does not.
    let optimizer = Optimizer::from(Sgd::new(1e30)).learning_rate_factor("fc.*", 1e30);
    let mut t = trainer(optimizer, TrainerOptions::batch(ROWS));
    let error = t.step(&batches(1)[0]).unwrap_err().to_string();
    assert!(error.contains("learning rate at step 0") && error.contains("fc.*"), "{error}");
    let decay = Optimizer::from(Sgd::new(0.1).weight_decay(1e30)).weight_decay_factor("fc.*", 1e30);
    assert!(matches!(decay.check(), Err(Error::InvalidArgument { .. })));
}

/// Schedules at extreme steps and with extreme numbers give a number or are refused by `check`.
#[test]
fn schedules_with_extreme_numbers_do_not_overflow() {
    let numbers = [0, 1, 2, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    let reals = [0.0, 1e-300, 0.5, 1.0, 1e300, f64::INFINITY, f64::NAN, -1.0];
    for a in numbers {
        for b in numbers {
            for real in reals {
                let curves = [
                    LrSchedule::constant(),
                    LrSchedule::step(a, real),
                    LrSchedule::cosine(a),
                    LrSchedule::one_cycle(a),
                    LrSchedule::polynomial(a, real),
                ];
                for schedule in curves.map(|curve| curve.warm_up(b).floor(real)) {
                    let valid = schedule.check().is_ok();
                    for step in numbers {
                        let factor = schedule.factor(step);
                        assert!(!valid || factor.is_nan() || factor >= 0.0, "{schedule} at {step}: {factor}");
                    }
                }
                let schedule = MaskSchedule::polynomial(real, 1.0).begin(a).end(b).every(a).power(real);
                let valid = schedule.check().is_ok();
                for step in numbers {
                    let fraction = schedule.at(step);
                    assert!(
                        !valid || fraction.is_none_or(|f| (0.0..=1.0).contains(&f)),
                        "{schedule} at {step}"
                    );
                }
            }
        }
    }
}

/// A timeout of any length is one: a deadline that the clock cannot represent must not overflow.
#[test]
fn longest_timeout_and_budget_are_valid() {
    let options = GpuOptions::default().compile_ahead(false).timeout(Duration::MAX).memory_budget(u64::MAX);
    let gpu = Gpu::new(options).unwrap();
    let model = Model::input([2]).dense("fc", 2).build().unwrap();
    let options = TrainerOptions::batch(2).progress_every(u64::MAX).seed(u64::MAX);
    let mut t = Trainer::new(&gpu, model, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options).unwrap();
    let batch = Batch { features: vec![1.0; 4], labels: vec![0, 1], targets: Vec::new() };
    t.step(&batch).unwrap();
    t.metrics().unwrap();
    gpu.wait().unwrap();
    assert_eq!(Operand::fixed(&[usize::MAX, 2], Fill::Below(2)).elements_per_row(), usize::MAX);
}

/// Graphs with extreme attributes, and adapters and cost models with extreme limits: all fields are public.
#[test]
fn estimates_with_extreme_numbers_are_errors_or_finite() {
    let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
    let conv = Conv2d::new([8, 8, 4], 8, window, 1, "c").unwrap();
    let graph = |conv: Conv2d, per_example: usize| {
        let mut g = Graph::new(4)?;
        let x = g.batch_input("x", &[8, 8, 4], DType::F32)?;
        let kernel = g.parameter("kernel", Shape::new([3, 3, 4, 8])?)?;
        let y = g.push_one(Op::Conv2d(conv), &[x, kernel], "c")?;
        let pool = Pool2d { window: Window::new([8, 8]).on([8, 8], "p")?, channels: 8 };
        let z = g.push(Op::MaxPool2d(pool), &[y], "p")?[0];
        let statistics = g.push(Op::BatchStatistics { epsilon: 1e-5 }, &[z], "s")?;
        let running = ["mean", "var"].map(|name| {
            g.declare(name, Shape::new([8]).unwrap(), frazil::low_level::ParameterKind::Statistic).unwrap();
            frazil::low_level::ParameterId::of(g.parameters().len() - 1)
        });
        let rule = StatisticsRule { momentum: 0.1, biased: false, per_example };
        g.push(Op::UpdateStatistics(rule, running), &[statistics[0], statistics[2]], "u")?;
        g.mark_output(z)?;
        Ok::<_, Error>(g)
    };
    let report = || AdapterReport::new("none", Backend::Vulkan, DeviceKind::Discrete);
    let estimate = |g: &Graph, report: &AdapterReport, cost: CostModel| {
        let options = PlanOptions::default().cost_model(cost);
        Plan::estimate(g, report, &options).map(|report| (report.bytes(), report.flops()))
    };
    let numbers = [0, 1, 3, 1 << 20, 1 << 31, 1 << 40, usize::MAX];
    for a in numbers {
        for b in numbers {
            let mut wrong = conv;
            (wrong.c_in, wrong.c_out, wrong.groups) = (a, b, a);
            assert!(graph(wrong, 1).is_err());
            wrong = conv;
            (wrong.window.output, wrong.window.stride) = ([a, b], [b, a]);
            assert!(graph(wrong, 1).is_err());
            wrong = conv;
            (wrong.window.pad_begin, wrong.window.dilation) = ([a, b], [a, b]);
            // The arguments 1 and 1 are the valid ones.
            assert_eq!(graph(wrong, 1).is_ok(), a <= 1 << 20 && b <= 1 << 20 && a > 0 && b > 0, "{a} {b}");
            let mut cost = CostModel { tile: Some([a, b]), gathered: b, ..CostModel::SOFTWARE };
            (cost.element_term, cost.depthwise_term, cost.dispatches) = (a, b, a);
            if let Some(winograd) = &mut cost.winograd {
                (winograd.channels, winograd.tiles, winograd.gain) = (a, b, a);
            }
            let valid = graph(conv, 64).unwrap();
            let _ = estimate(&valid, &report(), cost);
            let mut odd = report();
            (odd.max_buffer, odd.max_binding) = (a as u64, b as u64);
            (odd.max_storage_buffers, odd.max_workgroup_memory) = (a as u32, b as u32);
            (odd.max_invocations, odd.subgroup) = (b as u32, Some([a as u32, b as u32]));
            odd.cooperative_matrix = Some(a as u32);
            let _ = estimate(&valid, &odd, CostModel::DISCRETE);
        }
        if let Ok(graph) = graph(conv, a) {
            let _ = estimate(&graph, &report(), CostModel::INTEGRATED);
        }
    }
    assert!(gpu().report().max_binding > 0);
}
