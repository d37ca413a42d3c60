//! Runs the conformance cases of `frazil::conformance` (the op table) on the device in every supported GEMM
//! family, and tests that the comparison with the reference fails on injected errors.

use crate::support::device::gpu;
use crate::support::skip;
use frazil::conformance::{
    Case, DataKind, Ops, Suite, Wire, Work, bounds, cases, compare, families, outputs, reference_outputs,
};
use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::low_level::{
    CostModel, GemmFamily, Op, Plan, PlanOptions, Reduction, TILES, UpdateRule, Winograd,
};
use frazil::{Loss, Model};
use std::collections::{BTreeMap, BTreeSet};

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

#[test]
fn every_case_passes_in_every_supported_family() {
    let mut worst: BTreeMap<String, (usize, f64, String)> = BTreeMap::new();
    let mut kernels = BTreeSet::new();
    let mut failed = Vec::new();
    let runs = Suite::new().run(gpu()).unwrap();
    println!("runs of {} cases:", runs.cases());
    for outcome in runs {
        assert!(!outcome.op.is_empty(), "{}", outcome.name);
        kernels.extend(outcome.kernels.iter().copied());
        if !outcome.passed() {
            failed.push(outcome.to_string());
        }
        let entry = worst.entry(outcome.op).or_default();
        entry.0 += 1;
        if outcome.worst_error > entry.1 {
            (entry.1, entry.2) = (outcome.worst_error, outcome.name);
        }
    }
    for (op, (count, fraction, name)) in &worst {
        println!("  {op:<34} {count:>4} runs, largest error {fraction:.3} of the bound ({name})");
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    let all = frazil::low_level::FILES.iter().filter(|file| file.is_kernel()).map(|file| file.name);
    let mut unused: Vec<_> = all.filter(|name| !kernels.contains(name)).collect();
    unused.sort_unstable();
    // Kernels that no case runs on this adapter. `digest` belongs to no operation; other tests compare its
    // digests with those of the host. `copy_elements` collects gradients for other ranks, see tests/ranks.rs. `update_statistics` writes the running statistics of batch norm and has
    // no result; tests/batch_norm.rs compares them with the reference.
    let mut expected = vec![
        "copy_elements",
        "digest",
        "gemm_cooperative",
        "gemm_subgroup",
        "gemm_tiled",
        "round_to_f16",
        "update_statistics",
    ];
    // Only padded channels, which GPUs do not use, gather without im2col.
    if !CostModel::of(gpu().report()).pads_channels {
        expected.insert(2, "gather");
    }
    if GemmFamily::cooperative(gpu().report()).is_some() {
        expected.retain(|&name| !["gemm_cooperative", "round_to_f16"].contains(&name));
    } else {
        skip("op table: gemm_cooperative", &format!("{} has no cooperative matrices", gpu().report().name));
    }
    let families = GemmFamily::supported(gpu().report());
    if families.iter().any(|family| matches!(family, GemmFamily::Subgroup { .. })) {
        expected.retain(|&name| name != "gemm_subgroup");
    }
    if families.iter().any(|family| matches!(family, GemmFamily::Tiled { .. })) {
        expected.retain(|&name| name != "gemm_tiled");
    }
    assert_eq!(unused, expected);
}

#[test]
fn runs_are_restricted_to_the_given_families() {
    let register = Suite::new().families(&[GemmFamily::Register]).plan(gpu().report()).unwrap();
    // Cases with reductions also run with the other variant of these.
    let launches = |case: &Case, reduction: Reduction| {
        let options = case.options(PlanOptions::default().family(GemmFamily::Register).reduction(reduction));
        let all = Plan::launches(&case.graph().unwrap(), gpu().report(), &options).unwrap();
        all.iter().map(|l| (l.variant(), l.params.clone(), l.groups)).collect::<Vec<_>>()
    };
    let differs = |case: &&Case| launches(case, Reduction::Serial) != launches(case, Reduction::Parallel);
    let all = cases().unwrap();
    assert_eq!(register.count(), all.len() + all.iter().filter(differs).count());
    let unsupported = GemmFamily::Subgroup { lanes: 3 };
    let error = Suite::new().families(&[unsupported]).run(gpu()).unwrap_err().to_string();
    assert!(error.contains(&gpu().report().name) && error.contains(&unsupported.to_string()), "{error}");
}

/// Returns the names of all operations, parsed from the source of `Op::name`, whose `match` lists every
/// variant.
fn operation_names() -> BTreeSet<&'static str> {
    let source = include_str!("../src/graph/op.rs");
    let (_, body) = source.split_once("pub fn name(&self) -> &'static str {").expect("Op::name");
    let arms = body.lines().map(str::trim).take_while(|line| *line != "}");
    arms.filter_map(|line| line.strip_suffix("\",")?.rsplit_once("=> \"")).map(|(_, name)| name).collect()
}

#[test]
fn the_table_covers_every_operation_and_repeats_no_name() {
    let all = cases().unwrap();
    let mut names = BTreeSet::new();
    for case in &all {
        assert!(names.insert(case.name.as_str()), "two cases are named {}", case.name);
    }
    let mut covered: BTreeSet<String> =
        all.iter().flat_map(|c| c.op().split('+').map(str::to_owned).collect::<Vec<_>>()).collect();
    // No case covers `update_statistics`, because it writes parameters and has no result; tests/batch_norm.rs
    // compares it with the reference.
    assert!(covered.insert("update_statistics".to_owned()), "update_statistics is in the table");
    let every = operation_names();
    assert!(every.len() > 30, "Op::name was not parsed: {every:?}");
    assert_eq!(covered.iter().map(String::as_str).collect::<BTreeSet<_>>(), every);
}

fn ops(case: &Case) -> Option<&Ops> {
    match &case.work {
        Work::Ops(ops) => Some(ops),
        _ => None,
    }
}

/// Returns the cases whose graph is a single operation that runs as a GEMM, with real-valued data and without
/// a partial weight gradient.
fn gemm_cases() -> Vec<Case> {
    let real = |case: &Case| {
        case.has_gemm()
            && ops(case)
                .is_some_and(|o| o.data == DataKind::Reals && o.nodes.len() == 1 && o.partial.is_none())
    };
    cases().unwrap().into_iter().filter(real).collect()
}

fn floats(bits: &[u32]) -> Vec<f64> {
    bits.iter().map(|&b| f64::from(f32::from_bits(b))).collect()
}

#[test]
fn comparison_fails_on_one_wrong_element() {
    for case in gemm_cases().iter().step_by(7) {
        let batch = ops(case).unwrap().batch;
        let data = case.data();
        let want = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
        let bound = bounds(case, &data, batch).unwrap().swap_remove(0);
        let got = floats(&outputs(gpu(), case, &PlanOptions::default()).unwrap()[0]);
        compare(&case.name, &got, &want, &bound).unwrap();
        for i in [0, got.len() / 2, got.len() - 1] {
            for wrong in
                [want[i] + 1.5 * bound[i] + 1e-30, want[i] - 1.5 * bound[i] - 1e-30, f64::NAN, f64::INFINITY]
            {
                let mut altered = got.clone();
                altered[i] = wrong;
                let message = compare("altered", &altered, &want, &bound).unwrap_err();
                assert!(
                    message.contains("1 of ") && message.contains(&format!("worst at {i}:")),
                    "{message}"
                );
            }
        }
    }
    assert!(compare("short", &[1.0], &[1.0, 2.0], &[0.0, 0.0]).is_err());
    // A bound of 0 requires equality. A finite result is never within the bound of an infinite reference. NaN
    // equals NaN, and an infinity equals the same infinity.
    assert!(compare("exact", &[1.0 + 1e-12], &[1.0], &[0.0]).is_err());
    assert!(compare("infinite", &[f64::MAX], &[f64::INFINITY], &[1e300]).is_err());
    assert_eq!(
        compare("special", &[f64::NAN, f64::INFINITY], &[f64::NAN, f64::INFINITY], &[0.0; 2]),
        Ok(0.0)
    );
}

#[test]
fn comparison_fails_on_a_missing_product() {
    let all = gemm_cases();
    let mut long = 0;
    for case in &all {
        let batch = ops(case).unwrap().batch;
        let mut data = case.data();
        let bound = bounds(case, &data, batch).unwrap().swap_remove(0);
        // Skips sums of about a thousand terms or more (large bounds): there, one product may be smaller than
        // the rounding error that the bound allows.
        let winograd = ops(case).is_some_and(|o| o.winograd != Winograd::Auto);
        if !winograd && bound.iter().any(|&bound| bound > 1e-3) {
            long += 1;
            continue;
        }
        let want = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
        let got = floats(&outputs(gpu(), case, &PlanOptions::default()).unwrap()[0]);
        compare(&case.name, &got, &want, &bound).unwrap();
        // Injects a fault: one element of the first operand is 0, so that one product is missing from every
        // sum to which it contributes. Chooses the first element that changes a result, or for 5x5 Winograd,
        // whose bound is wide, the element of largest magnitude that does.
        let mut order: Vec<usize> = (0..data[0].len()).collect();
        if winograd && case.name.contains("5x5") {
            order.sort_by(|&a, &b| data[0][b].abs().total_cmp(&data[0][a].abs()));
        }
        let faulty = order.into_iter().find_map(|i| {
            let kept = std::mem::replace(&mut data[0][i], 0.0);
            let faulty = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
            data[0][i] = kept;
            (faulty != want).then_some(faulty)
        });
        let faulty = faulty.expect("an element that some result depends on");
        let changed = faulty.iter().zip(&want).filter(|(a, b)| a != b).count();
        let message = compare(&case.name, &got, &faulty, &bound).expect_err(&case.name);
        // Winograd has a wider bound, so some results that lack a product may be within it.
        assert!(
            winograd || message.contains(&format!(": {changed} of ")),
            "expected {changed} elements beyond the bound, got {message}"
        );
    }
    println!(
        "a missing product fails the comparison in {} cases; {long} cases have long sums",
        all.len() - long
    );
    assert!(10 * long < all.len(), "{long} of {}", all.len());
}

/// No two elements of a pooling window differ by less than the rounding errors of their sums. The suite
/// compares positions of maxima exactly, and rounding would otherwise decide which element is the maximum.
#[test]
fn maxima_of_pooled_sums_are_distinct_beyond_rounding() {
    let (mut windows, mut near) = (0, Vec::new());
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| o.nodes.len() > 1 && o.data == DataKind::Reals) else { continue };
        let Op::MaxPool2d(pool) = o.nodes[o.nodes.len() - 1].0 else { continue };
        let unfused = case.clone().with_ops(|ops| ops.keep_all = true);
        let data = unfused.data();
        let operand = o.nodes.len() - 2;
        let values = reference_outputs(&unfused, &data, o.batch).unwrap().swap_remove(operand);
        let bound = bounds(&unfused, &data, o.batch).unwrap().swap_remove(operand);
        // Two elements may be equal if both are exactly 0 on every device: zeros of a ReLU gradient, or
        // outputs of a ReLU whose input (`before`) is negative by more than its rounding error.
        let before = matches!(o.nodes[operand].0, Op::Relu)
            .then(|| reference_outputs(&unfused, &data, o.batch).unwrap().swap_remove(operand - 1));
        let zero = |i: usize| match (&o.nodes[operand].0, &before) {
            (Op::ReluGrad, _) => values[i] == 0.0,
            (_, Some(before)) => before[i] < -2.0 * bound[i],
            _ => false,
        };
        let [width, channels] = [pool.window.input[1], pool.channels];
        for corner in 0..values.len() {
            let (pixel, channel) = (corner / channels, corner % channels);
            if pixel % width % 2 == 1 || pixel / width % 2 == 1 {
                continue;
            }
            let window = [0, 1, width, width + 1].map(|offset| (pixel + offset) * channels + channel);
            let largest = window.into_iter().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
            let distinct = |i: usize| {
                let same = i == largest || (zero(i) && zero(largest));
                same || values[largest] - values[i] > 2.0 * bound[i].max(bound[largest])
            };
            if !window.into_iter().all(distinct) {
                near.push(format!("{} at {corner}", case.name));
            }
            windows += 1;
        }
    }
    assert!(near.is_empty(), "{near:#?}");
    assert!(windows > 1000, "{windows}");
}

/// No result of a batch norm before a ReLU gradient is within the rounding errors of 0: the bounds of the gradients
/// assume that the sign of the ReLU's output is exact.
#[test]
fn signs_of_rectified_batch_norms_are_certain() {
    let mut elements = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| !o.keep_all) else { continue };
        let rectified = |(op, wires): &(Op, Vec<Wire>)| {
            *op == Op::ReluGrad && matches!(wires[0], Wire::Result(relu, 0) if o.nodes[relu].0 == Op::Relu)
        };
        let norm = |(op, _): &(Op, Vec<Wire>)| matches!(op, Op::BatchNorm { .. });
        let (Some(norm), true) = (o.nodes.iter().position(norm), o.nodes.iter().any(rectified)) else {
            continue;
        };
        let truncated = case.clone().with_ops(|ops| ops.nodes.truncate(norm + 1));
        for rows in o.short_batches.iter().chain([&o.batch]) {
            let data = truncated.data();
            let values = reference_outputs(&truncated, &data, *rows).unwrap().swap_remove(0);
            let bound = bounds(&truncated, &data, *rows).unwrap().swap_remove(0);
            let used = rows * values.len() / o.batch;
            let near = values.iter().zip(&bound).take(used).position(|(v, bound)| v.abs() <= 2.0 * bound);
            assert_eq!(near, None, "{}, {rows} rows", case.name);
            elements += used;
        }
    }
    assert!(elements > 100_000, "{elements}");
}

/// A loss and its gradient in one dispatch have the bits of separate dispatches.
#[test]
fn losses_with_their_gradients_have_the_bits_of_separate_dispatches() {
    if !gpu().report().software {
        skip("bits of fused losses", &format!("{} is not a software adapter", gpu().report().name));
        return;
    }
    let mut compared = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case) else { continue };
        let [(loss, _), (gradient, _)] = o.nodes.as_slice() else { continue };
        if !matches!(
            (loss, gradient),
            (Op::SoftmaxCrossEntropy { .. }, Op::SoftmaxCrossEntropyGrad { .. })
                | (Op::MeanSquaredError, Op::MeanSquaredErrorGrad)
                | (Op::ElementLoss(_), Op::ElementLossGrad(_))
                | (Op::SoftCrossEntropy, Op::SoftCrossEntropyGrad)
        ) {
            continue;
        }
        let options = PlanOptions::default();
        let both = outputs(gpu(), &case, &options).unwrap();
        let kernels: Vec<_> =
            Plan::launches(&case.graph().unwrap(), gpu().report(), &case.options(options.clone()))
                .unwrap()
                .iter()
                .map(|launch| launch.kernel.name)
                .collect();
        assert!(!kernels.iter().any(|name| name.ends_with("_grad")), "{}: {kernels:?}", case.name);
        for kept in [0, 1] {
            let one = case.clone().with_ops(|ops| ops.nodes = vec![ops.nodes[kept].clone()]);
            assert!(outputs(gpu(), &one, &options).unwrap()[0] == both[kept], "{}: {kept}", case.name);
        }
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

/// On software adapters, whose compilers keep the order of operations, batch norms with fused operations have the
/// bits of separate dispatches.
#[test]
fn fused_batch_norms_have_the_bits_of_separate_dispatches() {
    if !gpu().report().software {
        skip("bits of fused batch norms", &format!("{} is not a software adapter", gpu().report().name));
        return;
    }
    let mut compared = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| !o.keep_all && o.nodes.len() > 1) else { continue };
        let is_norm = |op: &Op| matches!(op, Op::BatchNorm { .. } | Op::BatchNormGradScale { .. });
        // Batch statistics are merged by their reader whether or not they are outputs; the ReLU after a norm is not.
        let statistics = matches!(o.nodes[0].0, Op::BatchStatistics { .. });
        let rectified = o.nodes.iter().any(|(op, _)| *op == Op::Relu) && o.nodes.len() > 4;
        if statistics && !rectified || !o.nodes.iter().any(|(op, _)| is_norm(op)) {
            continue;
        }
        let separate = case.clone().with_ops(|ops| {
            // Outputs do not fuse, nor does a scale gradient after another operation that reads the same gradient.
            ops.keep_all = true;
            let grad_scale = |(op, _): &(Op, _)| matches!(op, Op::BatchNormGradScale { .. });
            if let Some(at) = ops.nodes.iter().position(grad_scale) {
                assert_eq!(ops.nodes[at + 1].0, Op::BiasGrad);
                ops.nodes.swap(at, at + 1);
                for wire in ops.nodes[at + 2..].iter_mut().flat_map(|(_, wires)| wires) {
                    *wire = match *wire {
                        Wire::Result(node, result) if node == at => Wire::Result(at + 1, result),
                        Wire::Result(node, result) if node == at + 1 => Wire::Result(at, result),
                        other => other,
                    };
                }
            }
        });
        for reduction in [Reduction::Serial, Reduction::Parallel] {
            let options = PlanOptions::default().reduction(reduction);
            let dispatches = |case: &Case| {
                let graph = case.graph().unwrap();
                Plan::estimate(&graph, gpu().report(), &case.options(options.clone()))
                    .unwrap()
                    .dispatches
                    .len()
            };
            assert!(dispatches(&case) < dispatches(&separate), "{} is not fused", case.name);
            let [fused, separate] = [&case, &separate].map(|case| outputs(gpu(), case, &options).unwrap());
            assert_eq!(fused.last(), separate.last(), "{}, {reduction:?}", case.name);
        }
        compared += 1;
    }
    assert!(compared >= 100, "{compared}");
}

/// Returns the result bits of a case in a GEMM family. Values share memory slots, as in training.
fn bits(case: &Case, family: GemmFamily) -> Vec<Vec<u32>> {
    outputs(gpu(), case, &PlanOptions::default().family(family)).unwrap()
}

/// Asserts that two plans of one case have the same results: the same bits on software adapters. Hardware
/// drivers may contract a*b+c in one shader and not in another, so that each result of `one` and `other` has
/// its own rounding errors; they differ by at most two of the bounds `bound`. Integer results, which are
/// positions, are equal.
fn assert_same_results(name: &str, one: &[Vec<u32>], other: &[Vec<u32>], bound: &[Vec<f64>]) {
    if gpu().report().software {
        assert!(one == other, "{name}");
        return;
    }
    for ((one, other), bound) in one.iter().zip(other).zip(bound) {
        // The bounds of positions are 0, and small integers are equal as subnormal floats only if they are
        // equal.
        let twice: Vec<_> = bound.iter().map(|bound| 2.0 * bound).collect();
        compare(name, &floats(one), &floats(other), &twice).unwrap();
    }
}

#[test]
fn fused_and_unfused_chains_have_the_same_results() {
    let mut pairs = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| case.has_gemm() && o.nodes.len() > 1 && !o.keep_all) else {
            continue;
        };
        let unfused = case.clone().with_ops(|ops| ops.keep_all = true);
        for family in families(&case, gpu().report()) {
            // `unfused` returns the result of every operation, and the fused chain only that of its last
            // operation. Max-pooling has two results: the maxima and their positions.
            let (one, all) = (bits(&case, family), bits(&unfused, family));
            let pool = matches!(o.nodes[o.nodes.len() - 1].0, Op::MaxPool2d(_));
            assert_eq!((one.len(), all.len()), (1 + usize::from(pool), o.nodes.len() + usize::from(pool)));
            let bound = bounds(&case, &case.data(), o.batch).unwrap();
            assert_same_results(
                &format!("{} ({family})", case.name),
                &one,
                &all[all.len() - one.len()..],
                &bound,
            );
            pairs += 1;
        }
    }
    println!("{pairs} fused chains equal the unfused ones");
    assert!(pairs > 0);
}

#[test]
fn convolutions_in_parts_of_the_batch_agree_bit_for_bit() {
    let mut pairs = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| o.workspace_bytes.is_some()) else { continue };
        // Skips weight gradients of real numbers: dividing the batch changes their order of summation. The
        // conformance run above checks that they are within their error bound.
        if case.op() == "conv2d_grad_kernel" && o.data == DataKind::Reals {
            continue;
        }
        // With an unlimited workspace, the im2col matrix of the full batch is computed at once.
        let undivided = case.clone().with_ops(|ops| ops.workspace_bytes = Some(u64::MAX));
        for family in families(&case, gpu().report()) {
            assert!(bits(&case, family) == bits(&undivided, family), "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!("{pairs} convolutions in parts of the batch equal those of the full batch bit for bit");
    assert!(pairs > 0);
}

/// Implicit GEMM and im2col (`explicit_columns`) give the same results for a convolution and its weight
/// gradient.
#[test]
fn implicit_gemm_and_im2col_have_the_same_results() {
    let (mut pairs, mut split) = (0, 0);
    let (mut compared, mut all) = (BTreeSet::new(), BTreeSet::new());
    for case in gemm_cases() {
        let columns = ["conv2d", "conv2d_grad_kernel"].contains(&case.op().as_str());
        if !columns || ops(&case).is_some_and(|o| o.winograd != Winograd::Auto) {
            continue;
        }
        // Skips a case that uses split-K, which changes the order of summation. The conformance run above
        // checks that it is within its error bound.
        if case.name.starts_with("conv2d_grad_kernel depthwise, many rows") {
            split += 1;
            continue;
        }
        all.insert(case.name.clone());
        let bound = bounds(&case, &case.data(), ops(&case).unwrap().batch).unwrap();
        for family in families(&case, gpu().report()) {
            if is_split(&case, family) {
                split += 1;
                continue;
            }
            compared.insert(case.name.clone());
            let options = PlanOptions::default().family(family);
            let implicit = outputs(gpu(), &case, &options).unwrap();
            let columns = outputs(gpu(), &case, &options.explicit_columns(true)).unwrap();
            assert_same_results(&format!("{} ({family})", case.name), &implicit, &columns, &bound);
            pairs += 1;
        }
    }
    println!("{pairs} convolutions by implicit GEMM equal those by im2col; {split} use split-K");
    // The families of GPUs split more GEMMs than that of software adapters, but few cases are split in all.
    assert!(10 * compared.len() > 9 * all.len(), "{} of {}", compared.len(), all.len());
}

/// Returns whether a GEMM family computes this case with split-K, whose partial sums change the order of
/// summation.
fn is_split(case: &Case, family: GemmFamily) -> bool {
    let options = case.options(PlanOptions::default().family(family));
    let launches = Plan::launches(&case.graph().unwrap(), gpu().report(), &options).unwrap();
    launches.iter().any(|launch| launch.kernel.name.starts_with("split_k_sum"))
}

#[test]
fn runs_repeat_and_families_agree_bit_for_bit() {
    let software = gpu().report().software;
    if !software {
        let why = "hardware drivers may contract a*b+c in one family and not in another";
        skip("op table: bits of different families", why);
    }
    let (mut unsplit, mut split) = (0, 0);
    for case in gemm_cases() {
        let mut of_each = Vec::new();
        let mut cooperative: Option<Vec<Vec<u32>>> = None;
        for family in families(&case, gpu().report()) {
            let first = bits(&case, family);
            assert!(first == bits(&case, family), "{} ({family}): two runs differ", case.name);
            // Operands rounded in advance have the same bits as those that each GEMM rounds.
            if matches!(family, GemmFamily::Cooperative { .. }) {
                let same = cooperative.get_or_insert_with(|| first.clone());
                assert!(*same == first, "{} ({family}): stored operands differ", case.name);
            }
            if is_split(&case, family) {
                // Partial sums (split-K) change the order of summation, so other families may give other
                // bits. The order is the same in every run, and the result is within the error bound.
                split += 1;
                // Cooperative matrices round the operands to f16; the conformance run above compares them
                // with the reference of rounded operands.
                if matches!(family, GemmFamily::Cooperative { .. }) {
                    continue;
                }
                let batch = ops(&case).unwrap().batch;
                let want = reference_outputs(&case, &case.data(), batch).unwrap().swap_remove(0);
                let bound = bounds(&case, &case.data(), batch).unwrap().swap_remove(0);
                compare(&format!("{} ({family})", case.name), &floats(&first[0]), &want, &bound).unwrap();
            } else if matches!(family, GemmFamily::Cooperative { .. }) {
                unsplit += 1;
            } else {
                of_each.push((family, first));
            }
        }
        if software {
            for (family, bits) in &of_each {
                assert!(*bits == of_each[0].1, "{}: {} and {family} differ", case.name, of_each[0].0);
            }
        }
        unsplit += of_each.len();
    }
    println!("{unsplit} GEMMs and {split} split-K GEMMs repeat bit for bit; families compared: {software}");
    assert!(unsplit > 0 && split > 0);
}

/// The cases run every tile of tiled GEMMs with row-major and with transposed A, and every WGSL snippet that
/// loads operands with several tiles.
#[test]
fn every_tile_runs_with_every_loader() {
    let mut loaders: BTreeMap<[u32; 2], BTreeSet<&str>> = BTreeMap::new();
    for case in gemm_cases() {
        for family in families(&case, gpu().report()) {
            let options = case.options(PlanOptions::default().family(family));
            for launch in Plan::launches(&case.graph().unwrap(), gpu().report(), &options).unwrap() {
                let constant =
                    |name| launch.constants.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
                if let (true, Some(rows), Some(columns)) =
                    (launch.kernel.name == "gemm_tiled", constant("TILE_ROWS"), constant("TILE_COLUMNS"))
                {
                    let names =
                        launch.snippets.iter().map(|s| s.name).filter(|name| !name.starts_with("store"));
                    loaders.entry([rows, columns]).or_default().extend(names);
                }
            }
        }
    }
    assert_eq!(loaders.len(), TILES.len());
    for (tile, snippets) in &loaders {
        assert!(
            snippets.contains("gemm_loader_rows") && snippets.contains("gemm_loader_columns"),
            "{tile:?}"
        );
    }
    let all: BTreeSet<&str> = loaders.values().flatten().copied().collect();
    assert!(all.contains("a_columns_patches_scalar") && all.contains("a_rows_patches_vec4"), "{all:?}");
    for snippet in all {
        let tiles = loaders.values().filter(|snippets| snippets.contains(snippet)).count();
        assert!(tiles >= 4, "{snippet} runs with {tiles} tiles only");
    }
}

/// GPUs compute sums over rows with whole workgroups, and software adapters with one invocation per partial
/// sum.
#[test]
fn reductions_are_parallel_on_gpus_only() {
    let graph =
        Model::named("resnet20").unwrap().training_graph(64, Loss::SoftmaxCrossEntropy, SGD).unwrap().graph;
    for kind in [DeviceKind::Cpu, DeviceKind::Virtual, DeviceKind::Integrated, DeviceKind::Discrete] {
        let adapter = AdapterReport::new("none", Backend::Vulkan, kind);
        let launches = |options: &PlanOptions| Plan::launches(&graph, &adapter, options).unwrap();
        let kernels = |options: &PlanOptions| -> BTreeSet<_> {
            launches(options).iter().map(|launch| launch.kernel.name).collect()
        };
        let auto = kernels(&PlanOptions::default());
        for serial in [
            "batch_moments",
            "batch_norm",
            "batch_norm_grad_sums",
            "batch_norm_grad_input",
            "bias_grad",
            "global_avg_pool",
        ] {
            let parallel = format!("{serial}_parallel");
            assert_eq!(auto.contains(serial), kind == DeviceKind::Cpu, "{kind}: {serial}");
            assert_eq!(auto.contains(parallel.as_str()), kind != DeviceKind::Cpu, "{kind}: {parallel}");
        }
        let either = if kind == DeviceKind::Cpu { Reduction::Serial } else { Reduction::Parallel };
        assert_eq!(auto, kernels(&PlanOptions::default().reduction(either)));
    }
}
