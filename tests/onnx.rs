//! Compares the CPU reference and the device with the node cases of ONNX's backend tests, which are
//! independent of this crate and of the golden vectors. `scripts/fetch-onnx-cases.sh` downloads them; without
//! them each test here reports itself as skipped.

mod layout;
mod loss;
mod ops;
mod windows;

use crate::support::compare::check_relative;
use crate::support::device::{device, families};
use crate::support::executor::{Fault, Faulty, Make, reference};
use crate::support::onnx::{Case, Tensor, case};
use crate::support::{say, skip};
use frazil::low_level::Graph;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reason why the operations of this crate cannot express an ONNX case.
#[derive(Debug)]
struct OutOfScope(String);

/// The outputs of a case in ONNX's layout, computed by one executor.
type Results = Result<Vec<Tensor>, OutOfScope>;

fn out_of_scope<T>(why: impl Into<String>) -> Result<T, OutOfScope> {
    Err(OutOfScope(why.into()))
}

/// Function that translates an ONNX case to operations of this crate and runs it on an executor.
type Map = fn(&Case, Make) -> Results;

/// The supported ONNX operators: the name, the translation to operations of this crate, and the minimum
/// number of cases that must run, so that the test fails if the reader finds no cases.
const OPERATORS: &[(&str, Map, usize)] = &[
    ("AveragePool", windows::average_pool, 13),
    ("BatchNormalization", ops::batch_normalization, 4),
    ("Clip", ops::clip, 8),
    ("Concat", ops::concat, 12),
    ("Conv", windows::conv, 6),
    ("ConvTranspose", windows::conv_transpose, 10),
    ("Gelu", ops::gelu, 4),
    ("Gemm", ops::gemm, 11),
    ("GlobalAveragePool", windows::global_average_pool, 2),
    ("GroupNormalization", ops::group_normalization, 2),
    ("HardSwish", ops::hard_swish, 1),
    ("InstanceNormalization", ops::group_normalization, 2),
    ("LayerNormalization", ops::layer_normalization, 19),
    ("LeakyRelu", ops::leaky_relu, 3),
    ("LRN", ops::local_response_norm, 2),
    ("LogSoftmax", ops::log_softmax, 7),
    ("MaxPool", windows::max_pool, 14),
    ("Mul", ops::mul, 3),
    ("ReduceMean", ops::reduce_mean, 8),
    ("Relu", ops::relu, 1),
    ("Resize", windows::resize, 6),
    ("Sigmoid", ops::sigmoid, 2),
    ("Softmax", ops::softmax, 7),
    ("SoftmaxCrossEntropyLoss", loss::softmax_cross_entropy, 28),
    ("Tanh", ops::tanh, 2),
    ("Upsample", windows::resize, 1),
];

/// Tolerance of the relative L2 error of an output: ONNX and this crate both compute short sums in f32.
const TOLERANCE: f64 = 1e-5;

/// ONNX's tolerances for each f32 element: `|got - want| <= ABSOLUTE + RELATIVE * |want|`.
const ABSOLUTE: f64 = 1e-7;
const RELATIVE: f64 = 1e-3;

/// Compares all outputs of a case with the expected ones and returns the largest relative L2 error.
///
/// # Errors
/// Returns a message that names the first output whose shape or elements differ.
fn check_outputs(case: &Case, got: &[Tensor]) -> Result<f64, String> {
    if got.len() != case.outputs.len() {
        return Err(format!("expected {} outputs, got {}", case.outputs.len(), got.len()));
    }
    let mut worst = 0.0f64;
    for (number, (got, want)) in got.iter().zip(&case.outputs).enumerate() {
        let want = want.as_ref().ok_or("the case lacks an expected output")?;
        let what = format!("output {number}");
        if got.shape != want.shape {
            return Err(format!("{what}: expected shape {:?}, got {:?}", want.shape, got.shape));
        }
        worst = worst.max(check_relative(&what, &got.data, &want.data, TOLERANCE)?);
        // A comparison with NaN is false, so an element that is NaN fails.
        let near = |(g, w): (&f64, &f64)| (g - w).abs() <= ABSOLUTE + RELATIVE * w.abs();
        if let Some(i) = got.data.iter().zip(&want.data).position(|pair| !near(pair)) {
            return Err(format!("{what}: element {i}: expected {:e}, got {:e}", want.data[i], got.data[i]));
        }
    }
    Ok(worst)
}

/// Runs a case with the function that [`OPERATORS`] lists for its operator.
fn results(case: &Case, make: Make) -> Results {
    let (_, map, _) = OPERATORS.iter().find(|(op, ..)| *op == case.op).expect("an operator of the table");
    if let Some(other) =
        case.inputs.iter().flatten().find(|t| !["float", "int32", "int64"].contains(&t.dtype))
    {
        return out_of_scope(format!("elements of type {}", other.dtype));
    }
    if case.inputs.is_empty() || case.inputs[0].is_none() {
        return out_of_scope("elements of an unsupported type");
    }
    map(case, make)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnx-cases/node")
}

/// Loads all cases of [`OPERATORS`], and the names of their variants that expand the operator into several
/// others. Returns `None` if the cases are not downloaded.
fn load_cases() -> Option<(Vec<Case>, Vec<String>)> {
    let folder = folder();
    folder.join("COMPLETE").exists().then_some(())?;
    let mut folders: Vec<_> = std::fs::read_dir(&folder).ok()?.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    let (mut found, mut expanded) = (Vec::<Case>::new(), Vec::new());
    for path in folders {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some((base, _)) = name.split_once("_expanded") {
            if found.iter().any(|case| case.name == base) {
                expanded.push(name);
            }
            continue;
        }
        let wanted = |op: &str| OPERATORS.iter().any(|(name, ..)| *name == op);
        found.extend(case(&path, wanted).unwrap_or_else(|why| panic!("{why}")));
    }
    Some((found, expanded))
}

/// Calls [`load_cases`]; reports the test as skipped if there are none.
fn cases_or_skip(test: &str) -> Option<(Vec<Case>, Vec<String>)> {
    let cases = load_cases();
    if cases.is_none() {
        skip(
            &format!("onnx: {test}"),
            "no cases in target/onnx-cases; scripts/fetch-onnx-cases.sh downloads them",
        );
    }
    cases
}

#[test]
fn node_cases() {
    let Some((cases, expanded)) = cases_or_skip("node_cases") else { return };
    let (mut passed, mut failures, mut ran) = (0, Vec::new(), BTreeMap::<&str, usize>::new());
    let mut outside: Vec<_> =
        expanded.into_iter().map(|name| (name, "expanded into other operators".into())).collect();
    let mut worst = [0.0f64; 2];
    for case in &cases {
        let first = match results(case, &reference) {
            Err(OutOfScope(why)) => {
                outside.push((case.name.clone(), why));
                continue;
            }
            Ok(got) => check_outputs(case, &got),
        };
        let mut all = vec![(0, "the reference".to_owned(), first)];
        for family in families() {
            let got = results(case, &|graph: &Graph| device(graph, family)).expect(&case.name);
            all.push((1, format!("the device, GEMM family {family}"), check_outputs(case, &got)));
        }
        *ran.entry(&case.op).or_default() += 1;
        passed += usize::from(all.iter().all(|(.., result)| result.is_ok()));
        for (index, executor, result) in all {
            match result {
                Ok(error) => worst[index] = worst[index].max(error),
                Err(why) => failures.push(format!("{} on {executor}: {why}", case.name)),
            }
        }
    }
    outside.iter().for_each(|(name, why)| println!("out of scope: {name}: {why}"));
    println!("ran: {ran:?}");
    let total: usize = ran.values().sum();
    say(&format!(
        "onnx node cases: {total} ran, {passed} passed, {} out of scope; worst relative L2 error {:.1e} in the \
         reference, {:.1e} on the device",
        outside.len(),
        worst[0],
        worst[1],
    ));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for (op, _, least) in OPERATORS {
        let ran = ran.get(op).copied().unwrap_or(0);
        assert!(ran >= *least, "{op}: expected at least {least} cases, ran {ran}");
    }
}

#[test]
fn comparison_fails_on_an_injected_fault() {
    let Some((cases, _)) = cases_or_skip("comparison_fails_on_an_injected_fault") else { return };
    for (name, op) in [
        ("test_averagepool_2d_pads", "avg_pool2d"),
        ("test_basic_conv_with_padding", "conv2d"),
        ("test_batchnorm_epsilon", "batch_norm"),
        ("test_gelu_tanh_2", "activation"),
        ("test_globalaveragepool", "global_avg_pool"),
        ("test_relu", "relu"),
        ("test_sce_mean_weight", "metrics"),
        ("test_sce_none_weights", "softmax_cross_entropy"),
        ("test_softmax_large_number", "softmax"),
    ] {
        let case = named(&cases, name);
        let make = move |graph: &_| Faulty::boxed(&reference, graph, Fault::Scale { op, factor: 1.001 });
        let got = results(case, &make).expect(name);
        assert!(check_outputs(case, &got).is_err(), "{name}");
    }
}

/// [`check_outputs`] compares every output of a case, not only the first: an error in any of them is
/// detected.
#[test]
fn comparison_fails_on_an_error_in_any_output() {
    let Some((cases, _)) = cases_or_skip("comparison_fails_on_an_error_in_any_output") else { return };
    for (name, outputs) in [
        ("test_batchnorm_epsilon_training_mode", 3),
        ("test_batchnorm_example_training_mode", 3),
        ("test_maxpool_with_argmax_2d_precomputed_pads", 2),
        ("test_sce_mean_weight_log_prob", 2),
    ] {
        let case = named(&cases, name);
        let right = results(case, &reference).expect(name);
        assert_eq!((right.len(), check_outputs(case, &right).is_ok()), (outputs, true), "{name}");
        for output in 0..outputs {
            let mut wrong = right.clone();
            let largest = wrong[output].data.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs()));
            *largest.expect("an element") *= 1.001;
            let why = check_outputs(case, &wrong).unwrap_err();
            assert!(why.starts_with(&format!("output {output}")), "{name}: {why}");
        }
    }
}

fn named<'a>(cases: &'a [Case], name: &str) -> &'a Case {
    cases.iter().find(|case| case.name == name).expect(name)
}
