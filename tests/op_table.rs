//! Runs the op table of `frazil::conformance` on the device in every supported GEMM family, and tests that
//! its comparisons fail on injected errors.

use crate::support::device::gpu;
use crate::support::skip;
use frazil::conformance::{
    self, Case, DataKind, Ops, Work, bounds, cases, compare, families, outputs, reference_outputs,
};
use frazil::low_level::GemmFamily;
use frazil::low_level::Op;
use frazil::low_level::{Plan, PlanOptions};
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
        println!("  {op:<34} {count:>4} runs, largest error {fraction:.3} of the bound ({name})");
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    let all = frazil::low_level::FILES.iter().filter(|file| file.is_kernel()).map(|file| file.name);
    let mut unused: Vec<_> = all.filter(|name| !kernels.contains(name)).collect();
    unused.sort_unstable();
    // No operation uses the digest kernel; other tests compare its digests with those of the host. The update
    // of running statistics writes parameters and has no result; tests/batch_norm.rs compares it with the
    // reference.
    let mut expected = vec!["digest", "gemm_cooperative", "gemm_subgroup", "gemm_tiled", "update_statistics"];
    if GemmFamily::cooperative(gpu().report()).is_some() {
        expected.retain(|&name| name != "gemm_cooperative");
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
    let register = conformance::run(gpu(), &[GemmFamily::Register]).unwrap();
    assert_eq!(register.len(), cases().unwrap().len());
    let unsupported = GemmFamily::Subgroup { lanes: 3 };
    let error = conformance::run(gpu(), &[unsupported]).unwrap_err().to_string();
    assert!(error.contains(&gpu().report().name) && error.contains(&unsupported.to_string()), "{error}");
}

/// The names of all operations, read from the source of `Op::name`, whose `match` lists every variant.
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
    // `update_statistics` writes parameters and has no result; tests/batch_norm.rs compares it with the
    // reference.
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

/// Returns the cases with real-valued data whose single operation is a GEMM.
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
    // A bound of 0 requires equality; an infinity is within no bound of a finite number.
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
        // In sums of a thousand terms or more, one product may be smaller than the rounding error that the
        // bound allows.
        let winograd = ops(case).is_some_and(|o| o.winograd);
        if !winograd && bound.iter().any(|&bound| bound > 1e-3) {
            long += 1;
            continue;
        }
        let want = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
        let got = floats(&outputs(gpu(), case, &PlanOptions::default()).unwrap()[0]);
        compare(&case.name, &got, &want, &bound).unwrap();
        // Sets one element of the first operand to 0, so that one product is missing from every sum that it
        // contributes to. This is the first element that contributes to a sum, or for 5x5 Winograd, whose
        // bound is wide, the largest one.
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
        // With Winograd, not every result without the product exceeds the bound.
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

/// Positions of maxima are compared exactly, so the cases of max-pooling after a sum must not have two
/// elements in a window that differ by less than rounding errors.
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
        // Zeros that are exact on every device: results of a ReLU's gradient, or of a ReLU of a sum well
        // below 0.
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

/// Returns the bits of a case's results in a family, with memory slots shared as in training.
fn bits(case: &Case, family: GemmFamily) -> Vec<Vec<u32>> {
    outputs(gpu(), case, &PlanOptions::default().family(family)).unwrap()
}

#[test]
fn fused_and_unfused_chains_agree_bit_for_bit() {
    let mut pairs = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| case.has_gemm() && o.nodes.len() > 1 && !o.keep_all) else {
            continue;
        };
        let unfused = case.clone().with_ops(|ops| ops.keep_all = true);
        for family in families(&case, gpu().report()) {
            // The fused chain returns only the results of its last operation; for max-pooling these are the
            // maxima and their positions.
            let (one, all) = (bits(&case, family), bits(&unfused, family));
            let pool = matches!(o.nodes[o.nodes.len() - 1].0, Op::MaxPool2d(_));
            assert_eq!((one.len(), all.len()), (1 + usize::from(pool), o.nodes.len() + usize::from(pool)));
            assert!(one[..] == all[all.len() - one.len()..], "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!("{pairs} fused chains equal the unfused ones bit for bit");
    assert!(pairs > 0);
}

#[test]
fn convolutions_in_parts_of_the_batch_agree_bit_for_bit() {
    let mut pairs = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| o.workspace_bytes.is_some()) else { continue };
        // A weight gradient is summed over the parts in another order; the op table checks that it is within
        // its bound.
        if case.op() == "conv2d_grad_kernel" && o.data == DataKind::Reals {
            continue;
        }
        // Computes the im2col matrix of the full batch at once.
        let undivided = case.clone().with_ops(|ops| ops.workspace_bytes = Some(u64::MAX));
        for family in families(&case, gpu().report()) {
            assert!(bits(&case, family) == bits(&undivided, family), "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!("{pairs} convolutions in parts of the batch equal those of the full batch bit for bit");
    assert!(pairs > 0);
}

/// Implicit GEMM and im2col give the same bits for a convolution and its weight gradient.
#[test]
fn implicit_gemm_and_im2col_agree_bit_for_bit() {
    let (mut pairs, mut split) = (0, 0);
    for case in gemm_cases() {
        let columns = ["conv2d", "conv2d_grad_kernel"].contains(&case.op().as_str());
        if !columns || ops(&case).is_some_and(|o| o.winograd) {
            continue;
        }
        // This case uses split-K, which sums in another order; the op table checks that it is within its
        // bound.
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
            let columns = outputs(gpu(), &case, &options.explicit_columns(true)).unwrap();
            assert!(implicit == columns, "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!("{pairs} convolutions by implicit GEMM equal those by im2col bit for bit; {split} use split-K");
    assert!(10 * split < pairs, "{split} of {pairs}");
}

/// Returns whether a family computes this case with split-K, which sums in another order.
fn is_split(case: &Case, family: GemmFamily) -> bool {
    let options = case.options(PlanOptions::default().family(family));
    let launches = Plan::launches(&case.graph().unwrap(), gpu().report(), &options).unwrap();
    launches.iter().any(|launch| launch.kernel.name == "split_k_sum")
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
        for family in families(&case, gpu().report()) {
            let first = bits(&case, family);
            assert!(first == bits(&case, family), "{} ({family}): two runs differ", case.name);
            if is_split(&case, family) {
                // Split-K sums in another order than one GEMM, but in the same order in every run, and within
                // the bound.
                let batch = ops(&case).unwrap().batch;
                let want = reference_outputs(&case, &case.data(), batch).unwrap().swap_remove(0);
                let bound = bounds(&case, &case.data(), batch).unwrap().swap_remove(0);
                compare(&format!("{} ({family})", case.name), &floats(&first[0]), &want, &bound).unwrap();
                split += 1;
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

/// The table has cases with both tile sizes of tiled GEMMs, and for each size with every loader of both
/// operands.
#[test]
fn both_tile_sizes_run_with_every_loader() {
    let mut snippets: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for case in gemm_cases() {
        let family: GemmFamily = "tiled-large".parse().unwrap();
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
