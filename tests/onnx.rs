//! The reference and the device against the ONNX backend's node cases: results that neither this crate nor the golden
//! vectors' authors computed. `scripts/fetch-onnx-cases.sh` brings them; without them the test says that it is skipped.

mod layout;
mod loss;
mod ops;
mod windows;

use crate::support::compare::check_relative;
use crate::support::device::{device, gpu};
use crate::support::executor::{Fault, Make, Planted, reference};
use crate::support::onnx::{Case, Tensor, case};
use frazil::graph::Graph;
use frazil::kernels::GemmFamily;
use std::path::{Path, PathBuf};

/// Why a case does not run.
enum Refusal {
    /// No operation of this crate says the same.
    OutOfScope(String),
    /// Operations could say it, and nobody has put them together here.
    #[allow(dead_code)] // while every operator of the table is mapped
    NotYetMapped(&'static str),
}

/// A case's outputs in ONNX's layout, as one executor computes them.
type Results = Result<Vec<Tensor>, Refusal>;

fn out_of_scope<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::OutOfScope(why.into()))
}

/// Runs a case on one executor.
type Map = fn(&Case, Make) -> Results;

/// How each operator is said in this crate's operations.
const OPERATORS: &[(&str, Map)] = &[
    ("AveragePool", windows::average_pool),
    ("BatchNormalization", ops::batch_normalization),
    ("Conv", windows::conv),
    ("ConvTranspose", windows::conv_transpose),
    ("Gelu", ops::gelu),
    ("Gemm", ops::gemm),
    ("GlobalAveragePool", windows::global_average_pool),
    ("LeakyRelu", ops::leaky_relu),
    ("MaxPool", windows::max_pool),
    ("Relu", ops::relu),
    ("Sigmoid", ops::sigmoid),
    ("Softmax", ops::softmax),
    ("SoftmaxCrossEntropyLoss", loss::softmax_cross_entropy),
    ("Tanh", ops::tanh),
];

/// Fewer cases than this that ran are a failure: a reader that finds nothing must not pass.
const LEAST_RAN: usize = 56;

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
    let (_, map) = OPERATORS.iter().find(|(op, _)| *op == case.op).expect("an operator of the table");
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
        let wanted = |op: &str| OPERATORS.iter().any(|(name, _)| *name == op);
        found.extend(case(&path, wanted).unwrap_or_else(|why| panic!("{why}")));
    }
    Some((found, expanded))
}

const SKIPPED: &str =
    "onnx node cases: SKIPPED, 1 test: the cases are not here; scripts/fetch-onnx-cases.sh brings them";

/// Past the test harness, which shows a passed test's output to nobody.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn node_cases() {
    let Some((cases, expanded)) = cases() else { return say(SKIPPED) };
    let family = GemmFamily::choose(gpu().report());
    let on_device = move |graph: &Graph| device(graph, family);
    let (mut ran, mut passed, mut failures, mut missing) = (0, 0, Vec::new(), Vec::new());
    let mut outside: Vec<_> =
        expanded.into_iter().map(|name| (name, "an expansion into other operators".into())).collect();
    let mut worst = [0.0f64; 2];
    for case in &cases {
        let check = |make: Make| results(case, make).map(|got| hold(case, &got));
        match check(&reference) {
            Err(Refusal::OutOfScope(why)) => outside.push((case.name.clone(), why)),
            Err(Refusal::NotYetMapped(what)) => missing.push(format!("{}: {what}", case.name)),
            Ok(first) => {
                ran += 1;
                let Ok(second) = check(&on_device) else { panic!("{}: one executor refuses it", case.name) };
                let both = [("reference", first), ("device", second)];
                passed += usize::from(both.iter().all(|(_, result)| result.is_ok()));
                for (index, (executor, result)) in both.into_iter().enumerate() {
                    match result {
                        Ok(error) => worst[index] = worst[index].max(error),
                        Err(why) => failures.push(format!("{} on the {executor}: {why}", case.name)),
                    }
                }
            }
        }
    }
    outside.iter().for_each(|(name, why)| println!("out of scope: {name}: {why}"));
    missing.iter().for_each(|line| say(&format!("onnx node cases: not yet mapped: {line}")));
    say(&format!(
        "onnx node cases: {ran} ran, {passed} passed, {} out of scope{}; worst relative L2 error {:.1e} in the \
         reference, {:.1e} on the device",
        outside.len(),
        if missing.is_empty() { String::new() } else { format!(", {} not yet mapped", missing.len()) },
        worst[0],
        worst[1],
    ));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(ran >= LEAST_RAN, "{ran} cases ran, expected at least {LEAST_RAN}");
}

#[test]
fn a_planted_error_is_caught() {
    let Some((cases, _)) = cases() else { return say(SKIPPED) };
    for (name, op) in [("test_basic_conv_with_padding", "conv2d"), ("test_relu", "relu")] {
        let case = cases.iter().find(|case| case.name == name).expect(name);
        let make = move |graph: &_| Planted::boxed(&reference, graph, Fault::Scale { op, factor: 1.001 });
        let got = results(case, &make).ok().expect(name);
        assert!(hold(case, &got).is_err(), "{name}");
    }
}
