//! The reference and the device against the ONNX backend's node cases: results that neither this crate nor the golden
//! vectors' authors computed. `scripts/fetch-onnx-cases.sh` brings them; without them each test here says that it is skipped.

mod layout;
mod loss;
mod ops;
mod windows;

use crate::support::compare::check_relative;
use crate::support::device::{device, families};
use crate::support::executor::{Fault, Make, Planted, reference};
use crate::support::onnx::{Case, Tensor, case};
use crate::support::say;
use frazil::graph::Graph;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why no operation of this crate says the same as a case.
#[derive(Debug)]
struct OutOfScope(String);

/// A case's outputs in ONNX's layout, as one executor computes them.
type Results = Result<Vec<Tensor>, OutOfScope>;

fn out_of_scope<T>(why: impl Into<String>) -> Result<T, OutOfScope> {
    Err(OutOfScope(why.into()))
}

/// Runs a case on one executor.
type Map = fn(&Case, Make) -> Results;

/// How each operator is said in this crate's operations, and how many of its cases run. Fewer are a failure: a reader
/// that finds nothing must not pass.
const OPERATORS: &[(&str, Map, usize)] = &[
    ("AveragePool", windows::average_pool, 11),
    ("BatchNormalization", ops::batch_normalization, 4),
    ("Conv", windows::conv, 6),
    ("ConvTranspose", windows::conv_transpose, 10),
    ("Gelu", ops::gelu, 4),
    ("Gemm", ops::gemm, 11),
    ("GlobalAveragePool", windows::global_average_pool, 2),
    ("LeakyRelu", ops::leaky_relu, 3),
    ("MaxPool", windows::max_pool, 14),
    ("Relu", ops::relu, 1),
    ("Sigmoid", ops::sigmoid, 2),
    ("Softmax", ops::softmax, 7),
    ("SoftmaxCrossEntropyLoss", loss::softmax_cross_entropy, 28),
    ("Tanh", ops::tanh, 2),
];

/// Both sides round to f32, and the sums are short.
const TOLERANCE: f64 = 1e-5;

/// ONNX's own for f32, element by element: `|got - want| <= ABSOLUTE + RELATIVE * |want|`.
const ABSOLUTE: f64 = 1e-7;
const RELATIVE: f64 = 1e-3;

/// The worst relative L2 error over the outputs.
fn hold(case: &Case, got: &[Tensor]) -> Result<f64, String> {
    if got.len() != case.outputs.len() {
        return Err(format!("{} outputs, expected {}", got.len(), case.outputs.len()));
    }
    let mut worst = 0.0f64;
    for (number, (got, want)) in got.iter().zip(&case.outputs).enumerate() {
        let want = want.as_ref().ok_or("no expected output")?;
        let what = format!("output {number}");
        if got.shape != want.shape {
            return Err(format!("{what}: shape {:?}, expected {:?}", got.shape, want.shape));
        }
        worst = worst.max(check_relative(&what, &got.data, &want.data, TOLERANCE)?);
        // Written so that NaN fails.
        let near = |(g, w): (&f64, &f64)| (g - w).abs() <= ABSOLUTE + RELATIVE * w.abs();
        if let Some(at) = got.data.iter().zip(&want.data).position(|pair| !near(pair)) {
            return Err(format!("{what}: element {at} is {:e}, expected {:e}", got.data[at], want.data[at]));
        }
    }
    Ok(worst)
}

/// Runs a case with its operator's entry of the table.
fn results(case: &Case, make: Make) -> Results {
    let (_, map, _) = OPERATORS.iter().find(|(op, ..)| *op == case.op).expect("an operator of the table");
    if let Some(other) =
        case.inputs.iter().flatten().find(|t| !["float", "int32", "int64"].contains(&t.dtype))
    {
        return out_of_scope(format!("elements of type {}", other.dtype));
    }
    if case.inputs.is_empty() || case.inputs[0].is_none() {
        return out_of_scope("elements of a type that is not read");
    }
    map(case, make)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnx-cases/node")
}

/// All cases of the table's operators, and the names of those operators' expansions into others; `None` where the cases
/// were not fetched.
fn cases() -> Option<(Vec<Case>, Vec<String>)> {
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

const SKIPPED: &str =
    "onnx node cases: SKIPPED, 1 test: the cases are not here; scripts/fetch-onnx-cases.sh brings them";

#[test]
fn node_cases() {
    let Some((cases, expanded)) = cases() else { return say(SKIPPED) };
    let (mut passed, mut failures, mut ran) = (0, Vec::new(), BTreeMap::<&str, usize>::new());
    let mut outside: Vec<_> =
        expanded.into_iter().map(|name| (name, "an expansion into other operators".into())).collect();
    let mut worst = [0.0f64; 2];
    for case in &cases {
        let first = match results(case, &reference) {
            Err(OutOfScope(why)) => {
                outside.push((case.name.clone(), why));
                continue;
            }
            Ok(got) => hold(case, &got),
        };
        let mut all = vec![(0, "the reference".to_owned(), first)];
        for family in families() {
            let got = results(case, &|graph: &Graph| device(graph, family)).expect(&case.name);
            all.push((1, format!("the device, gemm family {family}"), hold(case, &got)));
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
        assert!(ran >= *least, "{op}: {ran} cases ran, expected at least {least}");
    }
}

#[test]
fn a_planted_error_is_caught() {
    let Some((cases, _)) = cases() else { return say(SKIPPED) };
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
        let make = move |graph: &_| Planted::boxed(&reference, graph, Fault::Scale { op, factor: 1.001 });
        let got = results(case, &make).expect(name);
        assert!(hold(case, &got).is_err(), "{name}");
    }
}

/// Each output counts by itself: what the first one hides, such as a running statistic, too.
#[test]
fn an_error_in_any_output_is_caught() {
    let Some((cases, _)) = cases() else { return say(SKIPPED) };
    for (name, outputs) in [
        ("test_batchnorm_epsilon_training_mode", 3),
        ("test_batchnorm_example_training_mode", 3),
        ("test_maxpool_with_argmax_2d_precomputed_pads", 2),
        ("test_sce_mean_weight_log_prob", 2),
    ] {
        let case = named(&cases, name);
        let right = results(case, &reference).expect(name);
        assert_eq!((right.len(), hold(case, &right).is_ok()), (outputs, true), "{name}");
        for output in 0..outputs {
            let mut wrong = right.clone();
            let largest = wrong[output].data.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs()));
            *largest.expect("an element") *= 1.001;
            let why = hold(case, &wrong).unwrap_err();
            assert!(why.starts_with(&format!("output {output}")), "{name}: {why}");
        }
    }
}

fn named<'a>(cases: &'a [Case], name: &str) -> &'a Case {
    cases.iter().find(|case| case.name == name).expect(name)
}
