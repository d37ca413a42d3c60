//! Lists the tensors of files of every format.

use crate::support::soak::{damage, soak};
use crate::torch::stored;
use frazil::Error;
use frazil::interop::{FileContents, contents, npy};
use std::path::PathBuf;

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("frazil-contents-{}-{name}", std::process::id()))
}

/// Element type and shape of a tensor.
fn entry<'c>(found: &'c FileContents, name: &str) -> (&'c str, &'c [usize]) {
    let entry = found.tensors.iter().find(|entry| entry.name == name);
    let entry = entry.unwrap_or_else(|| panic!("{name} in {:?}", found.tensors));
    (&entry.dtype, &entry.shape)
}

#[test]
fn tensors_of_state_dicts_have_types_and_shapes() {
    for dtype in ["f32", "f16", "bf16", "f64"] {
        let found = contents(stored(&format!("digits_cnn.{dtype}.safetensors"))).unwrap();
        assert_eq!(found.format, "safetensors");
        assert_eq!(entry(&found, "features.3.weight"), (dtype, &[32, 16, 3, 3][..]));
        assert_eq!(entry(&found, "features.1.num_batches_tracked"), ("i64", &[][..]));
        assert!(found.operators.is_empty() && found.inputs.is_empty() && found.outputs.is_empty());
    }
}

#[cfg(feature = "pytorch")]
#[test]
fn tensors_of_torch_save_are_those_of_the_safetensors_file() {
    let found = contents(stored("digits_cnn.pth")).unwrap();
    assert_eq!(found.format, "PyTorch");
    assert_eq!(found.tensors, contents(stored("digits_cnn.f32.safetensors")).unwrap().tensors);
}

#[cfg(feature = "keras")]
#[test]
fn tensors_of_keras_are_datasets() {
    for (file, format) in
        [("digits_keras.keras", "Keras model"), ("digits_keras.weights.h5", "Keras weights")]
    {
        let found = contents(stored(file)).unwrap();
        assert_eq!(found.format, format);
        assert_eq!(entry(&found, "layers/conv2d/vars/0"), ("f32", &[3, 3, 1, 16][..]));
    }
}

#[test]
fn arrays_have_types_that_need_not_be_read() {
    let found = contents(stored("digits_cnn.inputs.npy")).unwrap();
    assert_eq!((found.format, entry(&found, "")), ("NumPy array", ("f32", &[16, 1, 8, 8][..])));
    let file = temporary("types.npy");
    for (element_type, expected, width) in [
        ("<f8", "f64", 8),
        (">i2", "i16", 2),
        ("|u1", "u8", 1),
        ("|b1", "bool", 1),
        ("<c8", "other", 8),
        ("|O", "other", 0),
    ] {
        let header = format!("{{'descr': '{element_type}', 'fortran_order': False, 'shape': (3,), }}\n");
        let mut bytes =
            [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes()]
                .concat();
        bytes.resize(bytes.len() + 3 * width, 0);
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(entry(&contents(&file).unwrap(), ""), (expected, &[3][..]), "{element_type}");
    }
    std::fs::remove_file(file).unwrap();
    #[cfg(feature = "npz")]
    {
        let file = temporary("arrays.npz");
        npy::write_npz(&file, &[("a.kernel", &[2, 1], &[1.0, 2.0]), ("b", &[], &[3.0])]).unwrap();
        let found = contents(&file).unwrap();
        assert_eq!((found.format, found.tensors.len()), ("NumPy arrays", 2));
        assert_eq!((entry(&found, "a.kernel"), entry(&found, "b")), (("f32", &[2, 1][..]), ("f32", &[][..])));
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn onnx_files_have_operators_inputs_and_outputs() {
    let found = contents(stored("digits_cnn.train.onnx")).unwrap();
    assert_eq!(found.format, "ONNX");
    assert_eq!(entry(&found, "features.3.weight"), ("f32", &[32, 16, 3, 3][..]));
    assert_eq!((found.operators["Conv"], found.operators["MaxPool"], found.operators["Gemm"]), (2, 1, 2));
    assert_eq!((found.inputs.len(), found.outputs.len()), (1, 1));
    let shape = found.inputs[0].shape.as_ref().unwrap();
    assert_eq!(shape[1..], [Some(1), Some(8), Some(8)]);
}

#[test]
fn other_files_are_named_errors() {
    let file = temporary("other");
    let refused = |bytes: &[u8], parts: &[&str]| {
        std::fs::write(&file, bytes).unwrap();
        let error = contents(&file).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&file.display().to_string()), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    refused(b"", &["safetensors, PyTorch, Keras, NumPy or ONNX"]);
    refused(b"epoch,loss\n1,0.5\n", &["safetensors, PyTorch, Keras, NumPy or ONNX"]);
    refused(b"\x1f\x8b\x08\x00", &["gzip"]);
    refused(b"\x93NUMPY\x01\x00", &["a part of a header"]);
    let whole = std::fs::read(stored("digits_cnn.f32.safetensors")).unwrap();
    refused(&whole[..whole.len() - 1], &["safetensors"]);
    let error = contents(temporary("nowhere")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    std::fs::remove_file(file).unwrap();
}

/// Damaged files are refused or listed; none panics.
#[test]
fn soak_contents() {
    let file = temporary("soak");
    let names = ["digits_cnn.f16.safetensors", "digits_cnn.inputs.npy", "mini_resnet.eval.onnx"];
    let all =
        [names.as_slice(), &["digits_cnn.pth", "digits_keras.weights.h5", "digits_keras.keras"]].concat();
    let all: Vec<_> = all.iter().map(|name| std::fs::read(stored(name)).unwrap()).collect();
    soak("contents", 3, |random| {
        let bytes = &all[random.below(all.len())];
        let whole = random.below(8) == 0;
        std::fs::write(&file, if whole { bytes.clone() } else { damage(random, bytes) }).unwrap();
        contents(&file).into()
    });
    std::fs::remove_file(file).unwrap();
}
