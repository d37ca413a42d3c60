//! Weights that Keras saved (tests/interop): the logits of Keras, every form of HDF5 that is read, and damage.

use crate::support::soak::{damage, soak};
use crate::support::zip::{Entry, archive};
use crate::torch::{error_of_logits, stored, trainer};
use frazil::interop::{KerasWeights, Weights};
use frazil::{Error, Model, Padding::Same, Trainer};
use std::path::PathBuf;

struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        File(std::env::temp_dir().join(format!("frazil-keras-{}-{name}", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The network of generate.py, whose batch norm has this epsilon.
fn digits(names: [&str; 4], epsilon: f64) -> Model {
    let [conv1, bn1, conv2, fc] = names;
    Model::input([8, 8, 1])
        .conv2d(conv1, 16, [3, 3], |c| c.padding(Same))
        .relu()
        .batch_norm_with(bn1, |n| n.epsilon(epsilon).momentum(0.01).biased(true))
        .max_pool2d([2, 2])
        .conv2d(conv2, 32, [3, 3], |c| c.padding(Same).stride([2, 2]))
        .relu()
        .flatten()
        .dense(fc, 10)
        .build()
        .unwrap()
}

const NAMES: [&str; 4] = ["conv1", "bn1", "conv2", "fc"];

fn loaded(model: &Model, weights: &Weights) -> Trainer {
    assert_eq!((&weights.missing, &weights.unused), (&vec![], &vec![]));
    assert_eq!(weights.parameters.len(), model.parameters().len());
    let mut trainer = trainer(model.clone());
    trainer.set_parameters(&weights.parameters).unwrap();
    trainer
}

#[test]
fn imported_network_gives_the_logits_of_keras() {
    let model = digits(NAMES, 1e-3);
    let names = KerasWeights::new(&model);
    let weights = names.read(stored("digits_keras.weights.h5")).unwrap();
    assert_eq!(weights, names.read(stored("digits_keras.keras")).unwrap());
    let error = error_of_logits(&loaded(&model, &weights), "digits_keras");
    assert!(error <= 1e-5, "{error:e}");
    // The epsilon of PyTorch gives other logits: the comparison sees it.
    let error = error_of_logits(&loaded(&digits(NAMES, 1e-5), &weights), "digits_keras");
    assert!(error > 1e-5, "{error:e}");
}

#[test]
fn transposed_convolutions_have_a_class_of_their_own() {
    // Kernels of Keras's Conv2DTranspose have the same layout, [kh, kw, c_out, c_in].
    let model = Model::input([8, 8, 1])
        .conv2d("conv", 16, [3, 3], |c| c.padding(Same))
        .conv_transpose2d("up1", 4, [2, 2], |c| c.stride([2, 2]))
        .conv_transpose2d("up2", 4, [2, 2], |c| c.bias(false))
        .build()
        .unwrap();
    let read = KerasWeights::new(&model).read(stored("digits_keras.weights.h5")).unwrap();
    let transposed: Vec<_> = read.missing.iter().filter(|name| name.contains("transpose")).collect();
    let expected = ["conv2d_transpose/vars/0", "conv2d_transpose/vars/1", "conv2d_transpose_1/vars/0"];
    assert_eq!(transposed, expected.map(|name| format!("layers/{name}")).iter().collect::<Vec<_>>());
}

#[test]
fn layers_get_names_in_order_or_by_rules() {
    let file = stored("digits_keras.weights.h5");
    let values = |names: KerasWeights| -> Vec<Vec<f32>> {
        names.read(&file).unwrap().parameters.into_iter().map(|(_, values)| values).collect()
    };
    let expected = values(KerasWeights::new(&digits(NAMES, 1e-3)));
    let other = KerasWeights::new(&digits(["a.0", "a.1", "b.0", "b.1"], 1e-3));
    assert_eq!(values(other.clone()), expected);
    // A rule takes a layer out of the numbering.
    let swapped =
        other.clone().rename("a.0", "layers/conv2d").unwrap().rename("b.0", "/layers/conv2d_1/").unwrap();
    assert_eq!(values(swapped), expected);
    let moved = other.clone().rename("a.0", "layers/stem").unwrap().read(&file);
    let error = moved.unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("\"layers/conv2d/vars/0\" for b.0.kernel") && text.contains("[3, 3, 16, 32]"),
        "{text}"
    );
    let error = other.clone().rename("b.0", "layers/conv2d").unwrap().read(&file).unwrap_err();
    assert!(
        matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains("layers/conv2d"),
        "{error}"
    );
    assert!(matches!(other.rename("c", "layers/conv2d"), Err(Error::UnknownParameter { .. })));
}

/// `types.weights.h5` and `latest.weights.h5` contain the same in two formats.
#[test]
fn forms_of_hdf5_are_read() {
    let model = Model::input([4, 4, 3])
        .conv2d("depthwise", 6, [2, 2], |c| c.groups(3).bias(false))
        .global_avg_pool()
        .dense("out", 3)
        .dense("fc", 2)
        .build()
        .unwrap();
    let names = KerasWeights::new(&model)
        .rename("depthwise", "layers/depthwise_conv2d")
        .unwrap()
        .rename("out", "layers/none")
        .unwrap();
    for name in ["types.weights.h5", "latest.weights.h5"] {
        let weights = names.read(stored(name)).unwrap();
        let expected = [
            ("depthwise.kernel".to_owned(), (0..24u8).map(f32::from).collect()),
            ("fc.kernel".to_owned(), vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            ("fc.bias".to_owned(), vec![0.5, -0.5]),
        ];
        assert_eq!(weights.parameters, expected, "{name}");
        assert_eq!(weights.missing, ["layers/none/vars/0", "layers/none/vars/1"], "{name}");
        assert_eq!(weights.unused, ["layers/other/vars/0", "layers/other/vars/4"], "{name}");
    }
    let refused = |group: &str, file: &str| {
        let model = Model::input([3]).dense("fc", 2).build().unwrap();
        let names = KerasWeights::new(&model).rename("fc", group).unwrap();
        names.read(stored(file)).unwrap_err().to_string()
    };
    for file in ["types.weights.h5", "latest.weights.h5"] {
        let error = refused("layers/other", file);
        assert!(
            error.contains("\"layers/other/vars/0\" for fc.kernel") && error.contains("chunks"),
            "{error}"
        );
    }
    let error = refused("layers/dense", "heap.weights.h5");
    assert!(error.contains("libver=\"earliest\""), "{error}");
    let error = refused("layers/depthwise_conv2d", "types.weights.h5");
    assert!(error.contains("expected the shape [3, 2], got [2, 2, 3, 2]"), "{error}");
    let error = refused("elsewhere", "types.weights.h5");
    assert!(error.contains("\"elsewhere/vars/0\"") && error.contains("KerasWeights::rename"), "{error}");
}

#[test]
fn other_files_are_named_errors() {
    let file = File::new("other");
    let names = KerasWeights::new(&digits(NAMES, 1e-3));
    let h5 = std::fs::read(stored("digits_keras.weights.h5")).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = h5.clone();
        bytes[at] = byte;
        bytes
    };
    for (expected, bytes) in [
        ("expected an HDF5 file, got another", b"hello, hello".to_vec()),
        ("got the end of the file", h5[..12].to_vec()),
        ("superblock of version 0 to 3, got 9", changed(8, 9)),
        ("addresses and lengths of 8 bytes, got [4, 8]", changed(13, 4)),
        ("base address", changed(24, 1)),
        ("position in the", h5[..90].to_vec()),
        (
            "entry \"model.weights.h5\", byte 0",
            archive(&[Entry::stored("model.weights.h5", b"hello, hello")]),
        ),
        ("got [\"config.json\"]", archive(&[Entry::stored("config.json", b"{}")])),
    ] {
        std::fs::write(&file.0, bytes).unwrap();
        let error = names.read(&file.0).unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    // Every shorter file is refused, or has lost only what it does not need.
    for end in (0..h5.len()).step_by(97) {
        std::fs::write(&file.0, &h5[..end]).unwrap();
        names.read(&file.0).unwrap_err();
    }
}

#[test]
fn soak_keras_files() {
    let file = File::new("soak");
    let names = KerasWeights::new(&digits(NAMES, 1e-3));
    let dense = KerasWeights::new(&Model::input([3]).dense("fc", 2).build().unwrap());
    let read = |name: &str| std::fs::read(stored(name)).unwrap();
    let files = [
        (read("digits_keras.weights.h5"), &names),
        (read("types.weights.h5"), &dense),
        (read("latest.weights.h5"), &dense),
        (read("digits_keras.keras"), &names),
    ];
    soak("Keras files", 6, |random| {
        let (original, names) = &files[random.below(files.len())];
        let mut bytes = original.clone();
        if random.below(8) > 0 {
            // Most damage is in the structure, which is at the beginning, at a place that is used.
            let end = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(9000) };
            bytes.splice(..end, damage(random, &original[..end]));
            if random.below(2) == 0 {
                let at = random.below(bytes.len() / 8) * 8;
                let address = (random.below(bytes.len()) as u64 & !7).to_le_bytes();
                bytes.splice(at..(at + 8).min(bytes.len()), address);
            }
        }
        std::fs::write(&file.0, &bytes).unwrap();
        let read = names.read(&file.0);
        if let Ok(read) = &read {
            assert!(read.parameters.iter().all(|(_, values)| !values.is_empty()));
        }
        read.into()
    });
}
