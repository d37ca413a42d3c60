//! Loads the golden vectors that tests/golden/README.md describes.

use super::compare::widen;
use frazil::low_level::{Conv2d, Pool2d};
use frazil::low_level::{Padding, Window, WindowGeometry};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn manifest() -> Value {
    let path = folder().join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A case of the manifest and its tensors.
pub struct Case {
    pub name: String,
    pub kind: String,
    pub params: Value,
    tensors: BTreeMap<String, Tensor>,
}

/// Sets of golden cases as (name, kind of the cases in the manifest, number of cases). One test runs each
/// set.
const SETS: [(&str, &str, usize); 20] = [
    ("activations", "activation", 10),
    ("avg_pool2d", "pool", 5),
    ("batch_norm", "batch_norm", 7),
    ("conv2d", "conv2d", 47),
    ("conv2d_sampled", "conv2d_sampled", 2),
    ("conv_transpose", "conv_transpose", 7),
    ("dense", "dense", 5),
    ("element_loss", "element_loss", 10),
    ("example_norm", "example_norm", 5),
    ("global_avg_pool", "global_avg_pool", 3),
    ("local_response_norm", "local_response_norm", 5),
    ("log_softmax", "log_softmax", 2),
    ("max_pool2d", "pool", 8),
    ("mse", "mse", 3),
    ("relu", "activation", 2),
    ("resample", "resample", 25),
    ("residual", "residual", 3),
    ("soft_cross_entropy", "soft_cross_entropy", 2),
    ("softmax_cross_entropy", "softmax_cross_entropy", 5),
    ("trajectory", "trajectory", 27),
];

/// Returns the name of the set to which a case of the manifest belongs. Panics if there is none, so that no
/// case is left out.
fn set_of(entry: &Value) -> &'static str {
    let params = &entry["params"];
    let name = match (entry["kind"].as_str().expect("a kind"), &params["activation"], &params["pool"]) {
        ("activation", activation, _) if activation == "relu" => "relu",
        ("activation", ..) => "activations",
        ("pool", _, pool) if pool == "max" => "max_pool2d",
        ("pool", ..) => "avg_pool2d",
        (kind, ..) => kind,
    };
    let set = SETS.iter().find(|(set, ..)| *set == name);
    set.unwrap_or_else(|| panic!("no test runs the golden case {}", entry["name"])).0
}

/// Loads all cases of a set, in the manifest's order. Panics unless there are as many as [`SETS`] lists.
pub fn cases(set: &str) -> Vec<Case> {
    let manifest = manifest();
    let all = manifest["cases"].as_array().expect("a list of cases");
    let cases: Vec<_> = all.iter().filter(|entry| set_of(entry) == set).map(Case::load).collect();
    let expected = SETS.iter().find(|(name, ..)| *name == set).map(|(.., count)| *count);
    assert_eq!(Some(cases.len()), expected, "golden cases of the set {set}");
    cases
}

impl Case {
    fn load(entry: &Value) -> Case {
        let text = |field: &str| entry[field].as_str().expect("a string").to_owned();
        let path = folder().join(text("file"));
        let file = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let parsed = SafeTensors::deserialize(&file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensors: BTreeMap<_, _> = parsed
            .iter()
            .map(|(name, view)| {
                let (shape, bytes) = (view.shape().to_vec(), view.data().to_vec());
                (name.to_owned(), Tensor { dtype: view.dtype(), shape, bytes })
            })
            .collect();
        let listed = entry["tensors"].as_object().expect("tensors").len();
        assert_eq!(tensors.len(), listed, "{}: tensors in the file and in the manifest", path.display());
        Case { name: text("name"), kind: text("kind"), params: entry["params"].clone(), tensors }
    }

    fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name))
    }

    /// Reads the elements of a tensor, `N` bytes each, which need not be aligned.
    fn read<T, const N: usize>(&self, name: &str, dtype: Dtype, decode: fn([u8; N]) -> T) -> Vec<T> {
        let tensor = self.tensor(name);
        assert_eq!(tensor.dtype, dtype, "{}: {name}", self.name);
        tensor.bytes.chunks_exact(N).map(|chunk| decode(chunk.try_into().expect("N bytes"))).collect()
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensor(name).shape
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.read(name, Dtype::F32, f32::from_le_bytes)
    }

    pub fn f64(&self, name: &str) -> Vec<f64> {
        self.read(name, Dtype::F64, f64::from_le_bytes)
    }

    pub fn i32(&self, name: &str) -> Vec<i32> {
        self.read(name, Dtype::I32, i32::from_le_bytes)
    }

    pub fn u8(&self, name: &str) -> Vec<u8> {
        self.read(name, Dtype::U8, u8::from_le_bytes)
    }

    /// Reads an f32 or i32 tensor, converted to f64 for an executor.
    pub fn wide(&self, name: &str) -> Vec<f64> {
        if self.tensor(name).dtype == Dtype::I32 {
            self.i32(name).into_iter().map(f64::from).collect()
        } else {
            widen(&self.f32(name))
        }
    }
}

/// Converts a number of the manifest to a size.
pub fn number(value: &Value) -> usize {
    let number = value.as_u64().unwrap_or_else(|| panic!("expected a size, got {value}"));
    usize::try_from(number).expect("a size")
}

fn pair(value: &Value) -> [usize; 2] {
    [number(&value[0]), number(&value[1])]
}

/// Returns the geometry of the window that `params` describes, applied to an input of `[height, width]`.
/// Panics unless the crate resolves padding and output size to the values in the manifest.
fn window(params: &Value, input: [usize; 2], output: Option<[usize; 2]>, at: &str) -> WindowGeometry {
    let given = &params["padding"];
    let side = |name: &str| number(&given[name]);
    let resolved = Padding::Explicit {
        top: side("top"),
        bottom: side("bottom"),
        left: side("left"),
        right: side("right"),
    };
    let padding = match given["mode"].as_str() {
        Some("same") => Padding::Same,
        Some("valid") => Padding::Valid,
        Some("explicit") => resolved,
        _ => panic!("{at}: expected same, valid or explicit padding, got {given}"),
    };
    let dilation = if params["dilation"].is_null() { [1, 1] } else { pair(&params["dilation"]) };
    let window =
        Window { kernel: pair(&params["kernel"]), stride: pair(&params["stride"]), dilation, padding };
    let geometry = window.on(input, at).unwrap();
    let explicit = Window { padding: resolved, ..window }.on(input, at).unwrap();
    assert_eq!(geometry, explicit, "{at}: the manifest's resolved padding");
    if let Some(output) = output {
        assert_eq!(geometry.output, output, "{at}: the manifest's output");
    }
    geometry
}

/// Returns the convolution and the batch size of a `conv2d` or `conv2d_sampled` case.
pub fn conv2d_case(case: &Case) -> (Conv2d, usize) {
    let p = &case.params;
    let input = [number(&p["height"]), number(&p["width"])];
    let output = [number(&p["out_height"]), number(&p["out_width"])];
    let window = window(p, input, Some(output), &case.name);
    let (c_in, c_out) = (number(&p["c_in"]), number(&p["c_out"]));
    (Conv2d { window, c_in, c_out, groups: number(&p["groups"]) }, number(&p["batch"]))
}

/// Returns the convolution of a layer of `params.net`, applied to images of size `input` = `[h, w]`.
pub fn conv2d_layer(layer: &Value, input: [usize; 2], at: &str) -> Conv2d {
    let window = window(layer, input, None, at);
    Conv2d { window, c_in: number(&layer["c_in"]), c_out: number(&layer["c_out"]), groups: 1 }
}

/// Returns the pooling and the batch size of a `pool` case; `pool` is `max` or `avg`.
pub fn pool2d_case(case: &Case, pool: &str) -> (Pool2d, usize) {
    let p = &case.params;
    assert_eq!(p["pool"], pool, "{}", case.name);
    let input = [number(&p["height"]), number(&p["width"])];
    let output = [number(&p["out_height"]), number(&p["out_width"])];
    let window = window(p, input, Some(output), &case.name);
    (Pool2d { window, channels: number(&p["channels"]) }, number(&p["batch"]))
}

/// Generates a tensor of a `conv2d_sampled` case with the linear congruential generator that
/// tests/golden/README.md defines.
pub fn generated(case: &Case, name: &str, elements: usize) -> Vec<f64> {
    let mut state = case.params["seeds"][name].as_u64().expect("a seed");
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = (32 + (state >> 58) % 32) as f64 / 64.0;
        if state >> 63 == 1 { -size } else { size }
    };
    (0..elements).map(|_| next()).collect()
}

/// Returns the elements of a full result that a `conv2d_sampled` case contains: every n-th element.
pub fn sampled(case: &Case, name: &str, result: &[f64]) -> Vec<f64> {
    result.iter().step_by(number(&case.params["sample_every"][name])).copied().collect()
}

#[test]
fn every_case_of_the_manifest_is_in_a_set_and_loads() {
    let manifest = manifest();
    let all = manifest["cases"].as_array().expect("a list of cases");
    let (mut kinds, mut ran) = (BTreeMap::new(), BTreeMap::new());
    for entry in all {
        *kinds.entry(Case::load(entry).kind).or_insert(0usize) += 1;
    }
    for (set, kind, _) in SETS {
        let cases = cases(set);
        assert!(cases.iter().all(|case| case.kind == kind), "{set}: cases of the kind {kind}");
        *ran.entry(kind.to_owned()).or_insert(0usize) += cases.len();
    }
    assert_eq!(ran, kinds, "cases in the sets and in the manifest");
    assert_eq!(all.len(), 183);
}

#[test]
#[should_panic(expected = "no test runs the golden case \"odd\"")]
fn set_of_panics_for_an_unknown_kind() {
    set_of(&serde_json::json!({ "name": "odd", "kind": "lstm", "params": {} }));
}
