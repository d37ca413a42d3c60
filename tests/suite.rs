//! The suite of `frazil::conformance`: selection, order, planted faults, lost devices, repeated runs, random shapes.

use crate::support::device::gpu;
use frazil::conformance::{
    Extent, Fault, Outcome, Run, Suite, Verdict, cases, float_facts, large_cases, network_cases, plant,
    random_cases, record_case, run_case,
};
use frazil::gpu::{AdapterReport, Backend, DeviceKind, Gpu, GpuOptions};
use frazil::low_level::{GemmFamily, Plan, PlanOptions, Reduction};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A device of its own, which a test may break.
fn own() -> Gpu {
    Gpu::new(GpuOptions::default().compile_ahead(false)).unwrap()
}

fn planted(fault: &str) -> Gpu {
    let gpu = own();
    plant(&gpu, &fault.parse::<Fault>().unwrap()).unwrap();
    gpu
}

fn software() -> AdapterReport {
    AdapterReport::new("none", Backend::Vulkan, DeviceKind::Cpu)
}

fn runs(suite: &Suite) -> Vec<Run> {
    suite.plan(&software()).unwrap().collect()
}

#[test]
fn globs_select_operations_kernels_and_cases() {
    let relu = runs(&Suite::new().op("relu"));
    assert!(relu.len() > 20 && relu.iter().all(|run| run.case.op().split('+').any(|op| op == "relu")));
    let both = runs(&Suite::new().op("relu").op("mean_gr?d"));
    assert!(both.len() > relu.len() && both.iter().any(|run| run.case.op() == "mean_grad"));
    let named = runs(&Suite::new().case("relu 7 of*"));
    assert_eq!(named.len(), 2, "{named:?}");
    // A plan with the kernel, whatever the operation is.
    let kernels = runs(&Suite::new().op("bias_*").kernel("bias_grad*"));
    assert!(
        kernels.len() > 10
            && kernels.iter().all(|run| run.kernels.iter().any(|k| k.starts_with("bias_grad")))
    );
    assert!(runs(&Suite::new().op("bias_add").kernel("gemm_cooperative")).is_empty());
    let refused = |suite: &Suite| suite.plan(&software()).unwrap_err().to_string();
    for (suite, parts) in [
        (Suite::new().op("reluu"), ["op: ", "reluu"]),
        (Suite::new().case("none"), ["case: ", "none"]),
        (Suite::new().kernel("gem_*"), ["kernel: ", "gem_*"]),
        (Suite::new().kernel("bits"), ["kernel: ", "bits"]),
        (Suite::new().shard(0, 2), ["shard: ", "0/2"]),
        (Suite::new().shard(3, 2), ["shard: ", "3/2"]),
    ] {
        let message = refused(&suite);
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn shards_run_each_case_once() {
    let suite = Suite::new().op("avg_pool2d*");
    let name = |run: &Run| (run.case.name.clone(), run.family.to_string(), format!("{:?}", run.reduction));
    let whole: BTreeSet<_> = runs(&suite).iter().map(name).collect();
    let mut parts = BTreeSet::new();
    for number in 1..=3 {
        let part = runs(&suite.clone().shard(number, 3));
        assert!(part.len() * 2 < whole.len(), "{} of {}", part.len(), whole.len());
        for run in part {
            assert!(parts.insert(name(&run)), "{} is in two parts", run.case.name);
        }
    }
    assert_eq!(parts, whole);
}

#[test]
fn a_suite_continues_after_any_run() {
    let suite = Suite::new().op("max_pool2d_grad");
    let all = runs(&suite);
    let quick = Suite::new().op("relu*").op("bias_*").extent(Extent::Quick);
    let few = runs(&quick);
    assert!(few.len() > 3 && few.len() < runs(&Suite::new().op("relu*").op("bias_*")).len() / 2);
    for (suite, all) in [(suite, all), (quick, few)] {
        for (index, run) in all.iter().enumerate().step_by(all.len() / 3) {
            assert_eq!(runs(&suite.clone().after(run.position)), all[index + 1..], "{:?}", run.position);
        }
    }
}

/// A quick suite leaves out no WGSL file that the family's cases use.
#[test]
fn quick_suites_run_every_kernel() {
    let kernels =
        |suite: &Suite| -> BTreeSet<_> { runs(suite).iter().flat_map(|run| run.kernels.clone()).collect() };
    let family = GemmFamily::choose(&software());
    let quick = Suite::new().extent(Extent::Quick);
    let (all, some) = (kernels(&Suite::new().families(&[family])), kernels(&quick));
    let serial = all.iter().filter(|kernel| !kernel.ends_with("_parallel"));
    assert!(serial.clone().all(|kernel| some.contains(kernel)), "{:?}", all.difference(&some));
    assert!(serial.count() > 60);
    assert!(runs(&quick).len() * 8 < cases().unwrap().len());
}

/// The results of a suite by whether the kernel is among those that it launched.
fn split(outcomes: impl Iterator<Item = Outcome>, kernel: &str) -> [Vec<Outcome>; 2] {
    let (with, without) = outcomes.partition(|outcome| outcome.kernels.contains(&kernel));
    [with, without]
}

#[test]
fn planted_wrong_elements_are_found_and_named() {
    for (fault, value) in [("wrong:mul", 12345.0), ("nan:mul", f64::NAN)] {
        let suite = Suite::new().op("mul").op("add").families(&[GemmFamily::Register]);
        let [wrong, right] = split(suite.run(&planted(fault)).unwrap(), "mul");
        assert!(wrong.len() > 10 && right.len() > 10);
        for outcome in &wrong {
            let found = outcome.mismatch.as_ref().unwrap_or_else(|| panic!("{outcome}"));
            let same = found.got == value || (found.got.is_nan() && value.is_nan());
            assert!(same && found.index < 4, "{fault}: {outcome}");
            assert_eq!(outcome.verdict.status(), "fail");
            assert!(outcome.to_string().contains(&outcome.name) && found.to_string().contains("worst at"));
        }
        assert!(right.iter().all(Outcome::passed), "{fault}");
    }
    let gpu = planted("wrong:mul");
    assert!(plant(&gpu, &"nan:add".parse().unwrap()).is_err());
}

/// A fault in a kernel of the adapter's family is found, whatever the kernel is. Each needs another device.
#[test]
fn planted_faults_are_found_in_kernels_of_all_kinds() {
    let mut seen = BTreeSet::new();
    let mut undetected = Vec::new();
    for op in
        ["conv2d*", "matmul", "bias_grad", "max_pool2d*", "softmax*", "normalize*", "batch_norm*", "update"]
    {
        let quick = Suite::new().extent(Extent::Quick).op(op);
        let Some(run) = quick.plan(gpu().report()).unwrap().last() else { panic!("{op}") };
        // The last kernel writes the result. An earlier one may write an element that no result depends on.
        let kernel = run.kernels[run.kernels.len() - 1];
        seen.insert(kernel);
        let outcome = run_case(&planted(&format!("wrong:{kernel}")), &run.case, run.family, run.reduction);
        if outcome.verdict.status() != "fail" {
            undetected.push(format!("{kernel}: {outcome}"));
        }
    }
    assert!(undetected.is_empty(), "{undetected:?}");
    assert!(seen.len() >= 7, "{seen:?}");
}

#[test]
fn suites_go_on_after_a_lost_device() {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let open = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(planted("lost:mul"))
    };
    let suite = Suite::new().case("mul 3 of*").case("add 3 of*");
    let outcomes = suite.run(&planted("lost:mul")).unwrap().reopen_with(open);
    let [lost, right] = split(outcomes, "mul");
    assert!(lost.len() > 3 && right.len() > 3);
    assert!(lost.iter().all(|outcome| matches!(outcome.verdict, Verdict::Lost(_))), "{lost:?}");
    assert!(right.iter().all(Outcome::passed), "{right:?}");
    // After each lost device but that of the last case, another one.
    assert_eq!(opened.load(Ordering::SeqCst), lost.len() - 1);
    // Without a way to open another device, each case reports the loss.
    let outcomes: Vec<_> = suite.run(&planted("lost:mul")).unwrap().collect();
    let first = outcomes.iter().position(|outcome| !outcome.passed()).unwrap();
    assert!(outcomes[first..].iter().all(|outcome| outcome.verdict.status() == "lost"), "{outcomes:?}");
    assert_eq!(outcomes.len(), lost.len() + right.len());
    // No other device can be opened: each case says so.
    let none = || Gpu::new(GpuOptions::default().adapter("no such card"));
    let outcomes: Vec<_> = suite.run(&planted("lost:mul")).unwrap().reopen_with(none).collect();
    assert!(outcomes[first + 1..].iter().all(|o| o.verdict.message().unwrap().contains("no such card")));
}

#[test]
fn repeated_runs_have_the_same_bits() {
    let suite = Suite::new().case("softmax*").case("update adam, *").case("bias_grad 130*");
    let once: Vec<_> = suite.run(gpu()).unwrap().collect();
    // One after the other, and in three threads that submit to one device.
    for again in [suite.clone().repeat(3), suite.repeat(2).load(3)] {
        let again: Vec<_> = again.run(gpu()).unwrap().collect();
        assert!(once.len() > 10 && once.len() == again.len());
        for (a, b) in once.iter().zip(&again) {
            assert!(a.passed() && b.passed(), "{a} {b}");
            assert_eq!((a.digest, &a.name), (b.digest, &b.name));
        }
    }
    let digests: BTreeSet<_> = once.iter().map(|outcome| outcome.digest).collect();
    assert!(digests.len() > 10, "{digests:?}");
}

/// Every second pipeline is wrong, so a single run of a case may pass.
#[test]
fn results_that_differ_are_flaky() {
    let suite = Suite::new().case("mul 3 of*").case("add 3 of*");
    for (suite, says) in [
        (suite.clone().repeat(2), "a repeated run differs"),
        (suite.load(2), "in 2 threads at the same time"),
    ] {
        let [flaky, right] = split(suite.run(&planted("flaky:mul")).unwrap(), "mul");
        assert!(flaky.len() > 3 && right.len() > 3);
        for outcome in &flaky {
            assert_eq!(outcome.verdict.status(), "flaky", "{outcome}");
            assert!(outcome.verdict.message().unwrap().contains(says), "{outcome}");
        }
        assert!(right.iter().all(Outcome::passed), "{right:?}");
    }
}

#[test]
fn recorded_cases_have_all_tensors() {
    for name in ["mul 7 of [3, 3, 3] integers", "update sgd with momentum"] {
        let case = cases().unwrap().into_iter().find(|case| case.name == name).unwrap();
        let (outcome, tensors) = record_case(gpu(), &case, GemmFamily::Register, Reduction::Serial);
        assert!(outcome.passed(), "{outcome}");
        for tensor in &tensors {
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len(), "{}", tensor.name);
        }
        let of = |what: &str| tensors.iter().filter(|tensor| tensor.name.ends_with(what)).collect::<Vec<_>>();
        let (expected, got) = (of("expected"), of("got"));
        assert!(!expected.is_empty() && got.len() >= expected.len(), "{tensors:?}");
        if name.ends_with("integers") {
            assert_eq!(of("operand 0")[0].shape, case.shapes()[0]);
            for (expected, got) in expected.iter().zip(&got) {
                assert_eq!((&expected.shape, &expected.values), (&got.shape, &got.values));
            }
        }
    }
}

#[test]
fn float_facts_are_measured() {
    let facts = float_facts(gpu()).unwrap();
    let value = |name: &str| facts.iter().find(|fact| fact.name == name).map(|fact| fact.value).unwrap();
    assert!(["kept", "flushed to 0"].contains(&value("subnormal operands")));
    assert!(["rounded twice", "fused"].contains(&value("a * b + c")));
    assert!(["true", "false"].contains(&value("x != x of NaN")));
    assert_eq!(facts.len(), 11);
    println!("{facts:?}");
}

#[test]
fn random_shapes_depend_on_the_seed_alone() {
    let names =
        |seed: u64| random_cases(seed, 300).unwrap().into_iter().map(|case| case.name).collect::<Vec<_>>();
    assert_eq!(names(1), names(1));
    let all: BTreeSet<_> = [names(1), names(2)].concat().into_iter().collect();
    assert_eq!(all.len(), 600);
    // Every one of them, and of the networks, can be planned on any adapter in any family.
    for case in random_cases(3, 300).unwrap().into_iter().chain(network_cases().unwrap()) {
        let options = case.options(PlanOptions::default().family(GemmFamily::Register));
        let launches = Plan::launches(&case.graph().unwrap(), &software(), &options);
        assert!(!launches.unwrap().is_empty(), "{}", case.name);
    }
}

/// With their guard bands, the large cases have tensors of exactly the smallest limit of a binding; `frazil check --full` runs
/// them.
#[test]
fn large_cases_reach_the_limit_of_a_binding() {
    let limited = |bytes: u64| {
        let mut report = software();
        report.max_binding = bytes;
        report
    };
    for case in large_cases() {
        let options = case.options(PlanOptions::default().family(GemmFamily::Register)).guard_bands(true);
        let plan = |bytes: u64| Plan::launches(&case.graph().unwrap(), &limited(bytes), &options);
        assert!(!plan(128 << 20).unwrap().is_empty(), "{}", case.name);
        let error = plan((128 << 20) - 1).unwrap_err();
        assert!(
            matches!(error, frazil::Error::LimitExceeded { needed, .. } if needed == 128 << 20),
            "{error}"
        );
    }
}

#[test]
fn random_shapes_and_networks_pass() {
    let full = Suite::new().extent(Extent::Full).seed(7);
    // A few of each kind; `frazil check --full` runs all.
    for (globs, least) in
        [(["random 7/1?:*", "random 7/2?:*"], 20), (["resnet 3x3 of 256*", "mobilenet stem*"], 8)]
    {
        let suite = globs.iter().fold(full.clone(), |suite, glob| suite.case(*glob));
        let outcomes: Vec<_> =
            suite.families(&[GemmFamily::choose(gpu().report())]).run(gpu()).unwrap().collect();
        assert!(outcomes.len() >= least, "{}", outcomes.len());
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
