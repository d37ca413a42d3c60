//! Runs the conformance suite in every supported GEMM family, and tests that its comparison detects errors.

use crate::support::device::gpu;
use crate::support::say;
use frazil::conformance::{
    self, Case, DataKind, Ops, Work, bounds, cases, compare, families, outputs, reference_outputs,
};
use frazil::graph::Op;
use frazil::kernels::GemmFamily;
use frazil::{Plan, PlanOptions};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn every_case_passes_in_every_supported_family() {
    let mut worst: BTreeMap<String, (usize, f64, String)> = BTreeMap::new();
    let mut kernels = BTreeSet::new();
    let mut failed = Vec::new();
    let runs = conformance::run(gpu(), &[]).unwrap();
    println!("{} runs of {} cases:", runs.len(), cases().unwrap().len());
    for outcome in runs {
        let outcome = outcome.unwrap();
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
        println!("  {op:<34} {count:>4} runs, at worst {fraction:.3} of the bound ({name})");
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    let all = frazil::kernels::FILES.iter().filter(|file| file.is_kernel()).map(|file| file.name);
    let mut unused: Vec<_> = all.filter(|name| !kernels.contains(name)).collect();
    unused.sort_unstable();
    // The digest is no operation; its own tests compare it with the host's. The update of running statistics writes parameters,
    // not results: tests/batch_norm.rs compares it with the reference.
    let mut expected = vec!["digest", "gemm_cooperative", "gemm_subgroup", "gemm_tiled", "update_statistics"];
    if GemmFamily::cooperative(gpu().report()).is_some() {
        expected.retain(|&name| name != "gemm_cooperative");
    } else {
        say(&format!(
            "op table: gemm_cooperative SKIPPED: {} has no cooperative matrices",
            gpu().report().name
        ));
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
    let register = conformance::run(gpu(), &[GemmFamily::Register]).unwrap();
    assert_eq!(register.len(), cases().unwrap().len());
    let unsupported = GemmFamily::Subgroup { lanes: 3 };
    let error = conformance::run(gpu(), &[unsupported]).unwrap_err().to_string();
    assert!(error.contains(&gpu().report().name) && error.contains("subgroup3"), "{error}");
}

#[test]
fn table_has_every_operation_and_unique_names() {
    let all = cases().unwrap();
    let mut names = BTreeSet::new();
    for case in &all {
        assert!(names.insert(case.name.as_str()), "{} is not unique", case.name);
    }
    let ops: BTreeSet<_> =
        all.iter().flat_map(|c| c.op().split('+').map(str::to_owned).collect::<Vec<_>>()).collect();
    let expected = [
        "accumulate",
        "activation",
        "activation_grad",
        "add",
        "avg_pool2d",
        "avg_pool2d_grad",
        "batch_norm",
        "batch_norm_grad_input",
        "batch_norm_grad_scale",
        "batch_statistics",
        "bias_add",
        "bias_grad",
        "clip",
        "conv2d",
        "conv2d_grad_input",
        "conv2d_grad_kernel",
        "dropout",
        "global_avg_pool",
        "global_avg_pool_grad",
        "matmul",
        "max_pool2d",
        "max_pool2d_grad",
        "mean_grad",
        "mean_squared_error",
        "mean_squared_error_grad",
        "metrics",
        "mul",
        "relu",
        "relu_grad",
        "reshape",
        "scale",
        "softmax",
        "softmax_cross_entropy",
        "softmax_cross_entropy_grad",
        "softmax_grad",
        "update",
    ];
    assert_eq!(ops.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

fn ops(case: &Case) -> Option<&Ops> {
    match &case.work {
        Work::Ops(ops) => Some(ops),
        _ => None,
    }
}

/// Cases of one GEMM or convolution on reals, without partial weight gradients.
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
fn comparison_detects_a_wrong_element() {
    for case in gemm_cases().iter().step_by(7) {
        let batch = ops(case).unwrap().batch;
        let data = case.data();
        let want = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
        let bound = bounds(case, &data, batch).unwrap().swap_remove(0);
        let got = floats(&outputs(gpu(), case, &PlanOptions::default()).unwrap()[0]);
        compare(&case.name, &got, &want, &bound).unwrap();
        for index in [0, got.len() / 2, got.len() - 1] {
            for wrong in [
                want[index] + 1.5 * bound[index] + 1e-30,
                want[index] - 1.5 * bound[index] - 1e-30,
                f64::NAN,
                f64::INFINITY,
            ] {
                let mut planted = got.clone();
                planted[index] = wrong;
                let message = compare("planted", &planted, &want, &bound).unwrap_err();
                assert!(
                    message.contains("1 of ") && message.contains(&format!("worst at {index}:")),
                    "{message}"
                );
            }
        }
    }
    assert!(compare("short", &[1.0], &[1.0, 2.0], &[0.0, 0.0]).is_err());
    // A bound of 0 requires equality; no finite number is within a bound of an infinity.
    assert!(compare("exact", &[1.0 + 1e-12], &[1.0], &[0.0]).is_err());
    assert!(compare("infinite", &[f64::MAX], &[f64::INFINITY], &[1e300]).is_err());
    assert_eq!(
        compare("special", &[f64::NAN, f64::INFINITY], &[f64::NAN, f64::INFINITY], &[0.0; 2]),
        Ok(0.0)
    );
}

#[test]
fn comparison_detects_a_missing_product() {
    let all = gemm_cases();
    let mut long = 0;
    for case in &all {
        let batch = ops(case).unwrap().batch;
        let mut data = case.data();
        let bound = bounds(case, &data, batch).unwrap().swap_remove(0);
        // In a sum of a thousand terms or more, one product may be smaller than the bound.
        let winograd = ops(case).is_some_and(|o| o.winograd);
        if !winograd && bound.iter().any(|&bound| bound > 1e-3) {
            long += 1;
            continue;
        }
        let want = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
        let got = floats(&outputs(gpu(), case, &PlanOptions::default()).unwrap()[0]);
        compare(&case.name, &got, &want, &bound).unwrap();
        // With one element of the first operand set to 0, each result that depends on it lacks one product. The first element
        // with such results is used, because a stride may skip elements; for 5x5 by Winograd's transforms, whose bound is
        // larger, the largest element.
        let mut order: Vec<usize> = (0..data[0].len()).collect();
        if winograd && case.name.contains("5x5") {
            order.sort_by(|&a, &b| data[0][b].abs().total_cmp(&data[0][a].abs()));
        }
        let faulty = order.into_iter().find_map(|index| {
            let original = std::mem::replace(&mut data[0][index], 0.0);
            let faulty = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
            data[0][index] = original;
            (faulty != want).then_some(faulty)
        });
        let faulty = faulty.expect("an element on which a result depends");
        let changed = faulty.iter().zip(&want).filter(|(a, b)| a != b).count();
        let message = compare(&case.name, &got, &faulty, &bound).expect_err(&case.name);
        // The transforms spread the error of one product, so that it does not exceed the bound of every result.
        assert!(
            winograd || message.contains(&format!(": {changed} of ")),
            "expected {changed} wrong elements, got {message}"
        );
    }
    println!("a missing product was detected in {} cases; {long} have long sums", all.len() - long);
    assert!(10 * long < all.len(), "{long} of {}", all.len());
}

/// Positions of a max-pool must be exact, so no two elements of a window may be closer than their bounds.
#[test]
fn no_max_pool_depends_on_rounding() {
    let (mut windows, mut near) = (0, Vec::new());
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| o.nodes.len() > 1 && o.data == DataKind::Reals) else { continue };
        let Op::MaxPool2d(pool) = o.nodes[o.nodes.len() - 1].0 else { continue };
        let unfused = case.clone().with_ops(|ops| ops.keep_all = true);
        let data = unfused.data();
        let operand = o.nodes.len() - 2;
        let values = reference_outputs(&unfused, &data, o.batch).unwrap().swap_remove(operand);
        let bound = bounds(&unfused, &data, o.batch).unwrap().swap_remove(operand);
        // Zeros that rounding cannot change: of a ReLU's gradient, or of a ReLU whose operand is well below 0.
        let before = matches!(o.nodes[operand].0, Op::Relu)
            .then(|| reference_outputs(&unfused, &data, o.batch).unwrap().swap_remove(operand - 1));
        let is_exact_zero = |index: usize| match (&o.nodes[operand].0, &before) {
            (Op::ReluGrad, _) => values[index] == 0.0,
            (_, Some(before)) => before[index] < -2.0 * bound[index],
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
            let is_clear = |index: usize| {
                let same = index == largest || (is_exact_zero(index) && is_exact_zero(largest));
                same || values[largest] - values[index] > 2.0 * bound[index].max(bound[largest])
            };
            if !window.into_iter().all(is_clear) {
                near.push(format!("{} at {corner}", case.name));
            }
            windows += 1;
        }
    }
    assert!(near.is_empty(), "{near:#?}");
    assert!(windows > 1000, "{windows}");
}

/// The bits of a case in a family, without guard bands, so that values share memory as in training.
fn bits(case: &Case, family: GemmFamily) -> Vec<Vec<u32>> {
    outputs(gpu(), case, &PlanOptions::default().family(family)).unwrap()
}

#[test]
fn fused_and_unfused_chains_are_bit_identical() {
    let mut pairs = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| case.has_gemm() && o.nodes.len() > 1 && !o.keep_all) else {
            continue;
        };
        let unfused = case.clone().with_ops(|ops| ops.keep_all = true);
        for family in families(&case, gpu().report()) {
            let (last, all) = (bits(&case, family), bits(&unfused, family));
            // Fused, only the results of the last operation are outputs: one, or two of a max-pool.
            let pool = matches!(o.nodes[o.nodes.len() - 1].0, Op::MaxPool2d(_));
            assert_eq!((last.len(), all.len()), (1 + usize::from(pool), o.nodes.len() + usize::from(pool)));
            assert!(last[..] == all[all.len() - last.len()..], "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!("{pairs} fused chains are bit-identical to unfused ones");
    assert!(pairs > 0);
}

#[test]
fn split_batches_are_bit_identical_to_whole_ones() {
    let mut pairs = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| o.workspace_bytes.is_some()) else { continue };
        // A weight gradient is the sum of the parts, in another order than the whole; the op table compares it within a bound.
        if case.op() == "conv2d_grad_kernel" && o.data == DataKind::Reals {
            continue;
        }
        let whole = case.clone().with_ops(|ops| ops.workspace_bytes = Some(u64::MAX));
        for family in families(&case, gpu().report()) {
            assert!(bits(&case, family) == bits(&whole, family), "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!("{pairs} split batches are bit-identical to whole ones");
    assert!(pairs > 0);
}

/// An implicit GEMM, which gathers patches, and im2col give the same bits for a convolution and its weight gradient.
#[test]
fn implicit_gemm_is_bit_identical_to_im2col() {
    let (mut pairs, mut split) = (0, 0);
    for case in gemm_cases() {
        let has_patches = ["conv2d", "conv2d_grad_kernel"].contains(&case.op().as_str());
        if !has_patches || ops(&case).is_some_and(|o| o.winograd) {
            continue;
        }
        // Sums in parts, in another order; the op table compares it within a bound.
        if case.name.starts_with("conv2d_grad_kernel depthwise, many rows") {
            split += 1;
            continue;
        }
        for family in families(&case, gpu().report()) {
            if is_split(&case, family) {
                split += 1;
                continue;
            }
            let options = PlanOptions::default().family(family);
            let implicit = outputs(gpu(), &case, &options).unwrap();
            let im2col = outputs(gpu(), &case, &options.explicit_columns(true)).unwrap();
            assert!(implicit == im2col, "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!("{pairs} implicit GEMMs are bit-identical to im2col; {split} more are split-K");
    assert!(10 * split < pairs, "{split} of {pairs}");
}

/// Whether a family computes this case as split-K, with another order of summation.
fn is_split(case: &Case, family: GemmFamily) -> bool {
    let options = case.options(PlanOptions::default().family(family));
    let launches = Plan::launches(&case.graph().unwrap(), gpu().report(), &options).unwrap();
    launches.iter().any(|launch| launch.kernel.name == "split_k_sum")
}

#[test]
fn runs_are_deterministic_and_families_are_bit_identical() {
    let software = gpu().report().software;
    let (mut unsplit, mut split) = (0, 0);
    for case in gemm_cases() {
        let mut by_family = Vec::new();
        for family in families(&case, gpu().report()) {
            let first = bits(&case, family);
            assert!(first == bits(&case, family), "{} ({family}): two runs differ", case.name);
            if is_split(&case, family) {
                // Its order of summation differs from the other families: within the bound, not bit-identical.
                let batch = ops(&case).unwrap().batch;
                let want = reference_outputs(&case, &case.data(), batch).unwrap().swap_remove(0);
                let bound = bounds(&case, &case.data(), batch).unwrap().swap_remove(0);
                compare(&format!("{} ({family})", case.name), &floats(&first[0]), &want, &bound).unwrap();
                split += 1;
            } else {
                by_family.push((family, first));
            }
        }
        // A hardware driver may contract a*b+c in one kernel and not in another.
        if software {
            for (family, bits) in &by_family {
                assert!(*bits == by_family[0].1, "{}: {} and {family} differ", case.name, by_family[0].0);
            }
        }
        unsplit += by_family.len();
    }
    println!("{unsplit} GEMMs and {split} split-K GEMMs are deterministic; families compared: {software}");
    assert!(unsplit > 0 && split > 0);
}

/// The cases have both tile sizes of the tiled family, each with every snippet that loads operands.
#[test]
fn cases_have_large_and_small_tiles() {
    let mut snippets: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for case in gemm_cases() {
        let family = GemmFamily::parse("tiled-large").unwrap();
        let options = case.options(PlanOptions::default().family(family));
        for launch in Plan::launches(&case.graph().unwrap(), gpu().report(), &options).unwrap() {
            if let Some((_, side)) = launch.constants.iter().find(|(name, _)| *name == "SIDE") {
                snippets.entry(*side).or_default().extend(launch.snippets.iter().map(|s| s.name));
            }
        }
    }
    assert_eq!(snippets.keys().copied().collect::<Vec<_>>(), [64, 128]);
    assert_eq!(snippets[&64], snippets[&128]);
}
