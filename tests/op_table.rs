//! The op table on the device in every legal family, and that what judges it fails when it should.

use crate::support::device::gpu;
use crate::support::say;
use frazil::conformance::{
    Case, DataKind, Ops, Verdict, Work, bounds, cases, compare, families, outputs, reference_outputs, run_all,
};
use frazil::graph::Op;
use frazil::kernels::GemmFamily;
use frazil::plan::{Plan, PlanOptions};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn every_case_passes_in_every_legal_family() {
    let mut worst: BTreeMap<String, (usize, f64, String)> = BTreeMap::new();
    let mut failed = Vec::new();
    let outcomes = run_all(gpu(), &[], &mut |outcome| {
        let entry = worst.entry(outcome.op.clone()).or_default();
        entry.0 += 1;
        if outcome.worst_error > entry.1 {
            entry.1 = outcome.worst_error;
            entry.2 = outcome.name.clone();
        }
        if !outcome.passed() {
            failed.push(outcome.to_string());
        }
    })
    .unwrap();
    println!("{} runs of {} cases:", outcomes.len(), cases().unwrap().len());
    for (op, (count, fraction, name)) in &worst {
        println!("  {op:<34} {count:>4} runs, at worst {fraction:.3} of the bound ({name})");
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    let kernels: BTreeSet<_> = outcomes.iter().flat_map(|o| o.kernels.iter().copied()).collect();
    let all = frazil::kernels::FILES.iter().filter(|file| file.is_kernel()).map(|file| file.name);
    let mut idle: Vec<_> = all.filter(|name| !kernels.contains(name)).collect();
    idle.sort_unstable();
    // The digest belongs to no operation; its own tests compare it with the host's. What moves running statistics writes
    // parameters, not results: tests/batch_norm.rs holds it against the reference.
    let mut expected = vec!["digest", "gemm_cooperative", "gemm_subgroup", "gemm_tiled", "update_statistics"];
    if GemmFamily::cooperative(gpu().report()).is_some() {
        expected.retain(|&name| name != "gemm_cooperative");
    } else {
        say(&format!("op table: gemm_cooperative SKIPPED: {} has no matrix units", gpu().report().name));
    }
    let families = GemmFamily::supported(gpu().report());
    if families.iter().any(|family| matches!(family, GemmFamily::Subgroup { .. })) {
        expected.retain(|&name| name != "gemm_subgroup");
    }
    if families.iter().any(|family| matches!(family, GemmFamily::Tiled { .. })) {
        expected.retain(|&name| name != "gemm_tiled");
    }
    assert_eq!(idle, expected);
    assert!(outcomes.iter().all(|o| o.verdict == Verdict::Pass && !o.op.is_empty()));
}

#[test]
fn the_table_holds_every_operation_and_no_name_twice() {
    let all = cases().unwrap();
    let mut names = BTreeSet::new();
    for case in &all {
        assert!(names.insert(case.name.as_str()), "{} twice", case.name);
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
        Work::Update(_) => None,
    }
}

/// Real-valued cases of one matrix product.
fn products() -> Vec<Case> {
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
fn one_wrong_element_is_caught() {
    for case in products().iter().step_by(7) {
        let batch = ops(case).unwrap().batch;
        let data = case.data();
        let want = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
        let bound = bounds(case, &data, batch).unwrap().swap_remove(0);
        let got = floats(&outputs(gpu(), case, &PlanOptions::default()).unwrap()[0]);
        compare(&case.name, &got, &want, &bound).unwrap();
        for at in [0, got.len() / 2, got.len() - 1] {
            for wrong in [
                want[at] + 1.5 * bound[at] + 1e-30,
                want[at] - 1.5 * bound[at] - 1e-30,
                f64::NAN,
                f64::INFINITY,
            ] {
                let mut planted = got.clone();
                planted[at] = wrong;
                let message = compare("planted", &planted, &want, &bound).unwrap_err();
                assert!(
                    message.contains("1 of ") && message.contains(&format!("worst at {at}:")),
                    "{message}"
                );
            }
        }
    }
    assert!(compare("short", &[1.0], &[1.0, 2.0], &[0.0, 0.0]).is_err());
    // Without a bound only equality will do; an infinity is near nothing.
    assert!(compare("exact", &[1.0 + 1e-12], &[1.0], &[0.0]).is_err());
    assert!(compare("infinite", &[f64::MAX], &[f64::INFINITY], &[1e300]).is_err());
    assert_eq!(
        compare("special", &[f64::NAN, f64::INFINITY], &[f64::NAN, f64::INFINITY], &[0.0; 2]),
        Ok(0.0)
    );
}

#[test]
fn a_dropped_product_is_caught() {
    let all = products();
    let mut long = 0;
    for case in &all {
        let batch = ops(case).unwrap().batch;
        let mut data = case.data();
        let bound = bounds(case, &data, batch).unwrap().swap_remove(0);
        // Of a sum of a thousand terms and more, one product may be as small as what rounding may do.
        let winograd = ops(case).is_some_and(|o| o.winograd);
        if !winograd && bound.iter().any(|&bound| bound > 1e-3) {
            long += 1;
            continue;
        }
        let want = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
        let got = floats(&outputs(gpu(), case, &PlanOptions::default()).unwrap()[0]);
        compare(&case.name, &got, &want, &bound).unwrap();
        // One element of the first operand becomes 0: every result that it reaches loses one product. The first element
        // may lie under no tap, so the first that reaches anything is taken; of 5x5 by transforms, whose bound is wide, the
        // largest.
        let mut order: Vec<usize> = (0..data[0].len()).collect();
        if winograd && case.name.contains("5x5") {
            order.sort_by(|&a, &b| data[0][b].abs().total_cmp(&data[0][a].abs()));
        }
        let faulty = order.into_iter().find_map(|at| {
            let kept = std::mem::replace(&mut data[0][at], 0.0);
            let faulty = reference_outputs(case, &data, batch).unwrap().swap_remove(0);
            data[0][at] = kept;
            (faulty != want).then_some(faulty)
        });
        let faulty = faulty.expect("an element that reaches a result");
        let changed = faulty.iter().zip(&want).filter(|(a, b)| a != b).count();
        let message = compare(&case.name, &got, &faulty, &bound).expect_err(&case.name);
        // Transforms spread the error of one product; their bound does not see it at every result.
        assert!(
            winograd || message.contains(&format!(": {changed} of ")),
            "{message}, but {changed} changed"
        );
    }
    println!("a dropped product was caught in {} cases; {long} have long sums", all.len() - long);
    assert!(10 * long < all.len(), "{long} of {}", all.len());
}

/// Positions have no bound, so no case may have two elements in a window of which rounding chooses.
#[test]
fn no_pool_of_sums_has_a_choice_that_rounding_makes() {
    let (mut windows, mut near) = (0, Vec::new());
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| o.nodes.len() > 1 && o.data == DataKind::Reals) else { continue };
        let Op::MaxPool2d(pool) = o.nodes[o.nodes.len() - 1].0 else { continue };
        let kept = Case { name: case.name.clone(), work: Work::Ops(Ops { keep_all: true, ..o.clone() }) };
        let data = kept.data();
        let operand = o.nodes.len() - 2;
        let values = reference_outputs(&kept, &data, o.batch).unwrap().swap_remove(operand);
        let bound = bounds(&kept, &data, o.batch).unwrap().swap_remove(operand);
        // Zeros of which every device is sure: a ReLU's gradient made them, or a ReLU of what is well below 0.
        let before = matches!(o.nodes[operand].0, Op::Relu)
            .then(|| reference_outputs(&kept, &data, o.batch).unwrap().swap_remove(operand - 1));
        let zero = |tap: usize| match (&o.nodes[operand].0, &before) {
            (Op::ReluGrad, _) => values[tap] == 0.0,
            (_, Some(before)) => before[tap] < -2.0 * bound[tap],
            _ => false,
        };
        let [width, channels] = [pool.window.input[1], pool.channels];
        for corner in 0..values.len() {
            let (pixel, channel) = (corner / channels, corner % channels);
            if pixel % width % 2 == 1 || pixel / width % 2 == 1 {
                continue;
            }
            let taps = [0, 1, width, width + 1].map(|tap| (pixel + tap) * channels + channel);
            let largest = taps.into_iter().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
            let clear = |tap: usize| {
                let same = tap == largest || (zero(tap) && zero(largest));
                same || values[largest] - values[tap] > 2.0 * bound[tap].max(bound[largest])
            };
            if !taps.into_iter().all(clear) {
                near.push(format!("{} at {corner}", case.name));
            }
            windows += 1;
        }
    }
    assert!(near.is_empty(), "{near:#?}");
    assert!(windows > 1000, "{windows}");
}

/// The bits of a case in a family, with memory shared as in training.
fn bits(case: &Case, family: GemmFamily) -> Vec<Vec<u32>> {
    outputs(gpu(), case, &PlanOptions::default().family(family)).unwrap()
}

#[test]
fn fused_and_unfused_chains_agree_to_the_bit() {
    let mut pairs = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| case.has_gemm() && o.nodes.len() > 1 && !o.keep_all) else {
            continue;
        };
        let unfused = Case { name: case.name.clone(), work: Work::Ops(Ops { keep_all: true, ..o.clone() }) };
        for family in families(&case, gpu().report()) {
            let (one, all) = (bits(&case, family), bits(&unfused, family));
            // Of the last operation alone; a pool gives positions, too.
            let pool = matches!(o.nodes[o.nodes.len() - 1].0, Op::MaxPool2d(_));
            assert_eq!((one.len(), all.len()), (1 + usize::from(pool), o.nodes.len() + usize::from(pool)));
            assert!(one[..] == all[all.len() - one.len()..], "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!("{pairs} fused chains equal their unfused twins to the bit");
    assert!(pairs > 0);
}

#[test]
fn parts_of_a_batch_give_the_bits_of_the_whole() {
    let mut pairs = 0;
    for case in cases().unwrap() {
        let Some(o) = ops(&case).filter(|o| o.workspace_bytes.is_some()) else { continue };
        // A kernel's gradient adds the parts up, so its order of summation is another; its bound holds in the table.
        if case.op() == "conv2d_grad_kernel" && o.data == DataKind::Reals {
            continue;
        }
        // All columns at once.
        let workspace_bytes = Some(u64::MAX);
        let whole = Case { name: case.name.clone(), work: Work::Ops(Ops { workspace_bytes, ..o.clone() }) };
        for family in families(&case, gpu().report()) {
            assert!(bits(&case, family) == bits(&whole, family), "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!("{pairs} batches in parts equal the whole to the bit");
    assert!(pairs > 0);
}

/// Gathering patches inside the product does not change a bit of a convolution or its kernel's gradient.
#[test]
fn gathered_patches_give_the_bits_of_columns_in_memory() {
    let (mut pairs, mut split) = (0, 0);
    for case in products() {
        let columns = ["conv2d", "conv2d_grad_kernel"].contains(&case.op().as_str());
        if !columns || ops(&case).is_some_and(|o| o.winograd) {
            continue;
        }
        // In slices, so its order of summation is another; its bound holds in the table.
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
            let gathered = outputs(gpu(), &case, &options).unwrap();
            let columns = outputs(gpu(), &case, &options.explicit_columns(true)).unwrap();
            assert!(gathered == columns, "{} ({family})", case.name);
            pairs += 1;
        }
    }
    println!(
        "{pairs} convolutions with gathered patches equal those with columns to the bit; {split} have sums in splits"
    );
    assert!(10 * split < pairs, "{split} of {pairs}");
}

/// Whether a family cuts the sums of this case into slices: they are added up in another order.
fn is_split(case: &Case, family: GemmFamily) -> bool {
    let options = case.options(PlanOptions::default().family(family));
    let launches = Plan::launches(&case.graph().unwrap(), gpu().report(), &options).unwrap();
    launches.iter().any(|launch| launch.kernel.name == "split_k_sum")
}

#[test]
fn runs_repeat_and_families_agree_to_the_bit() {
    let software = gpu().report().software;
    let (mut whole, mut split) = (0, 0);
    for case in products() {
        let mut of_each = Vec::new();
        for family in families(&case, gpu().report()) {
            let first = bits(&case, family);
            assert!(first == bits(&case, family), "{} ({family}): two runs differ", case.name);
            if is_split(&case, family) {
                // Slices have an order of their own: the same in every run, and within the bound.
                let batch = ops(&case).unwrap().batch;
                let want = reference_outputs(&case, &case.data(), batch).unwrap().swap_remove(0);
                let bound = bounds(&case, &case.data(), batch).unwrap().swap_remove(0);
                compare(&format!("{} ({family})", case.name), &floats(&first[0]), &want, &bound).unwrap();
                split += 1;
            } else {
                of_each.push((family, first));
            }
        }
        // Elsewhere a driver may contract a*b+c in one kernel and not in another.
        if software {
            for (family, bits) in &of_each {
                assert!(*bits == of_each[0].1, "{}: {} and {family} differ", case.name, of_each[0].0);
            }
        }
        whole += of_each.len();
    }
    println!("{whole} whole and {split} split products repeat to the bit; families compared: {software}");
    assert!(whole > 0 && split > 0);
}

/// Every size of tile, and every family's way to read both operands, is among the cases.
#[test]
fn large_tiles_are_among_the_cases() {
    let mut snippets: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for case in products() {
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
