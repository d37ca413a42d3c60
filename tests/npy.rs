//! NumPy's formats: arrays that NumPy wrote are read exactly, and damaged ones are refused.

use crate::support::soak::{damage, soak};
use crate::torch::stored;
#[cfg(feature = "npz")]
use frazil::Mask;
use frazil::interop::npy::{self, Array, Elements};
use frazil::{Error, FreezeRule};
use std::path::PathBuf;

struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        File(std::env::temp_dir().join(format!("frazil-npy-{}-{name}", std::process::id())))
    }

    fn read(&self, bytes: &[u8]) -> frazil::Result<Array> {
        std::fs::write(&self.0, bytes).unwrap();
        npy::read(&self.0)
    }

    fn refused(&self, bytes: &[u8]) -> String {
        let error = self.read(bytes).unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&self.0.display().to_string()) && text.contains("byte "), "{text}");
        text
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file of version 1 with this header.
fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
}

fn array(element_type: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    with_header(&format!("{{'descr': '{element_type}', 'fortran_order': False, 'shape': {shape}, }}\n"), data)
}

#[test]
fn written_array_has_the_bytes_of_numpy() {
    let file = File::new("written");
    let original = std::fs::read(stored("digits_cnn.inputs.npy")).unwrap();
    let read = npy::read(stored("digits_cnn.inputs.npy")).unwrap();
    assert_eq!(read.shape, [16, 1, 8, 8]);
    let Elements::F32(values) = read.elements else { panic!("{:?}", read.elements) };
    assert_eq!(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>(), original[128..]);
    npy::write(&file.0, &[16, 1, 8, 8], &values).unwrap();
    assert_eq!(std::fs::read(&file.0).unwrap(), original);
    for shape in [vec![], vec![1], vec![1, 1], vec![0, 3], vec![1; 64]] {
        let values = vec![f32::from_bits(0x7fc0_1234); shape.iter().product()];
        npy::write(&file.0, &shape, &values).unwrap();
        let read = npy::read(&file.0).unwrap();
        assert_eq!(read.shape, shape);
        let Elements::F32(read) = read.elements else { panic!("{shape:?}") };
        assert!(read.iter().all(|value| value.to_bits() == 0x7fc0_1234) && read.len() == values.len());
    }
    for (shape, values) in [(vec![2], 3), (vec![usize::MAX, usize::MAX], 1)] {
        let error = npy::write(&file.0, &shape, &vec![0.0; values]).unwrap_err();
        assert!(matches!(error, Error::ShapeMismatch { .. }), "{error}");
    }
}

#[test]
fn integers_become_f32_only_if_exact() {
    let file = File::new("integers");
    let read = |element_type: &str, data: &[u8]| {
        file.read(&array(element_type, &format!("({},)", data.len() / 8), data)).unwrap().into_f32()
    };
    assert_eq!(read("<i8", &(-(1i64 << 24)).to_le_bytes()).unwrap(), [-16_777_216.0]);
    assert_eq!(read("<i8", &i64::MIN.to_le_bytes()).unwrap(), [-(2f32.powi(63))]);
    for value in [(1i64 << 24) + 1, i64::MAX] {
        let error = read("<i8", &value.to_le_bytes()).unwrap_err();
        assert!(error.to_string().contains(&value.to_string()), "{error}");
    }
}

#[test]
fn arrays_that_do_not_fit_are_named_errors() {
    let file = File::new("refused");
    let fields = "'fortran_order': False, 'shape': (1,), ";
    let huge = usize::MAX;
    for (expected, bytes) in [
        ("expected an array in NumPy's format, got another", b"hello".to_vec()),
        ("part of a header", b"\x93NUMPY\x01".to_vec()),
        ("part of a header", b"\x93NUMPY\x01\x00\xff\x00".to_vec()),
        ("version 1, 2 or 3", b"\x93NUMPY\x04\x00\x01\x00\x00\x00".to_vec()),
        ("at most 10000 bytes, got 4294967295", b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec()),
        ("descr, fortran_order and shape", with_header("{}", &[0; 4])),
        ("descr, fortran_order and shape", with_header("{'descr': '<f4'}", &[0; 4])),
        ("descr, fortran_order and shape", array("<f4", "(1", &[0; 4])),
        ("descr, fortran_order and shape", array("<f4", "(-1,)", &[0; 4])),
        ("descr, fortran_order and shape", array("<f4", "(1,,)", &[0; 4])),
        ("descr, fortran_order and shape", array("<f4", &format!("({})", "1, ".repeat(65)), &[0; 4])),
        (
            "descr, fortran_order and shape",
            with_header(&format!("{{'descr': [('x', '<f4')], {fields}}}"), &[0; 4]),
        ),
        ("got \"<c8\"", array("<c8", "(1,)", &[0; 8])),
        ("got \"|O\"", array("|O", "(1,)", &[0; 8])),
        ("got \"<u8\"", array("<u8", "(1,)", &[0; 8])),
        ("got \"\"", array("", "(1,)", &[0; 8])),
        ("got \"é\"", array("é", "(1,)", &[0; 8])),
        ("got \"!f4\"", array("!f4", "(1,)", &[0; 4])),
        ("[2] elements of 4 bytes, got 4 bytes", array("<f4", "(2,)", &[0; 4])),
        ("[1] elements of 4 bytes, got 5 bytes", array("<f4", "(1,)", &[0; 5])),
        ("got 4 bytes", array("<f4", &format!("({huge}, {huge})"), &[0; 4])),
        ("range of f32, got 1e300", array("<f8", "()", &1e300f64.to_le_bytes())),
        ("read_npz", b"PK\x03\x04".to_vec()),
    ] {
        let error = file.refused(&bytes);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // A listing does not repeat a size that the file does not have.
    for bytes in [array("<f4", "(2,)", &[0; 4]), array("<f4", &format!("({huge}, {huge})"), &[0; 4])] {
        std::fs::write(&file.0, bytes).unwrap();
        let error = frazil::interop::contents(&file.0).unwrap_err().to_string();
        assert!(error.contains("got 4 bytes"), "{error}");
    }
    assert!(matches!(npy::read(std::env::temp_dir()), Err(Error::Io { .. })));
}

#[test]
fn masks_in_npy_files_freeze() {
    let file = File::new("mask");
    let rule = || FreezeRule::from_file(&file.0, "*");
    let resolve = |bytes: &[u8]| {
        std::fs::write(&file.0, bytes).unwrap();
        rule().resolve("conv.kernel", 4).map(|mask| mask.frozen_indices().collect::<Vec<_>>())
    };
    assert_eq!(resolve(&array("|b1", "(4,)", &[1, 0, 0, 1])).unwrap(), [0, 3]);
    assert_eq!(resolve(&array("|u1", "(4,)", &[0, 2, 0, 0])).unwrap(), [1]);
    // The text form, as in `frazil train --freeze`.
    let text = format!("file:{}:mask", file.0.display());
    assert_eq!(text.parse::<FreezeRule>().unwrap().resolve("conv.kernel", 4).unwrap().frozen_count(), 1);
    for (expected, bytes) in [
        ("bool or uint8, got floating-point numbers", array("<f4", "(4,)", &[0; 16])),
        ("expected the shape [4] of conv.kernel, got [2, 2]", array("|b1", "(2, 2)", &[0; 4])),
        ("expected 4", array("|b1", "(5,)", &[0; 5])),
        ("got 3 bytes", array("|b1", "(4,)", &[0; 3])),
    ] {
        let error = resolve(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn soak_npy_files() {
    let file = File::new("soak");
    let fortran = "{'descr': '>i4', 'fortran_order': True, 'shape': (2, 3), }";
    let originals =
        [array("<f4", "(2, 3)", &[0; 24]), with_header(fortran, &[0; 24]), array("|b1", "(4,)", &[1; 4])];
    let mut number = 0;
    soak("npy files", 3, |random| {
        number = (number + 1) % originals.len();
        let original = &originals[number];
        let read = file.read(&if random.below(8) == 0 { original.clone() } else { damage(random, original) });
        if let Ok(read) = &read {
            let elements = match &read.elements {
                Elements::F32(values) => values.len(),
                Elements::I64(values) => values.len(),
                Elements::U8(values) => values.len(),
                Elements::Bool(values) => values.len(),
                other => panic!("{other:?}"),
            };
            assert_eq!(elements, read.shape.iter().product::<usize>());
        }
        let _ = FreezeRule::from_file(&file.0, "m").resolve("m", 4);
        read.into()
    });
}

#[cfg(feature = "npz")]
mod npz {
    use super::*;
    use crate::support::zip::{Entry, archive};
    use frazil::Model;
    use std::collections::BTreeMap;

    #[test]
    fn arrays_of_numpy_are_read() {
        for name in ["arrays.npz", "packed.npz"] {
            let mut arrays: BTreeMap<_, _> = npy::read_npz(stored(name)).unwrap().into_iter().collect();
            let mut take = |name: &str| arrays.remove(name).unwrap();
            let floats: Vec<_> = (0..24u8).map(f32::from).collect();
            for order in ["", ".fortran"] {
                for (kind, expected) in [
                    ("float16", Elements::F32(floats.clone())),
                    ("float32", Elements::F32(floats.clone())),
                    ("float64", Elements::F32(floats.clone())),
                    ("uint8", Elements::U8((0..24).collect())),
                    ("int16", Elements::I64((0..24).collect())),
                    ("int32", Elements::I64((0..24).collect())),
                    ("int64", Elements::I64((0..24).collect())),
                    ("bool", Elements::Bool((0..24).map(|i| i % 2 == 0).collect())),
                ] {
                    let array = take(&format!("{kind}{order}"));
                    assert_eq!(
                        array,
                        Array { shape: vec![2, 3, 4], elements: expected },
                        "{name} {kind}{order}"
                    );
                }
            }
            assert_eq!(take("big"), Array { shape: vec![2, 3, 4], elements: Elements::F32(floats) });
            assert_eq!(take("one"), Array { shape: vec![3], elements: Elements::F32(vec![0.0, 1.0, 2.0]) });
            assert_eq!(take("number"), Array { shape: vec![], elements: Elements::F32(vec![7.0]) });
            assert_eq!(take("negative").elements, Elements::I64(vec![-1, -(1 << 62)]));
            assert_eq!(take("none"), Array { shape: vec![0, 5], elements: Elements::F32(vec![]) });
            assert!(arrays.is_empty(), "{arrays:?}");
        }
    }

    #[test]
    fn weights_and_masks_by_name() {
        let file = File::new("weights.npz");
        let model = Model::input([3]).dense("fc", 2).build().unwrap();
        let kernel = [1.0, f32::NAN, -0.0, f32::INFINITY, 1e-40, 6.0];
        npy::write_npz(&file.0, &[("fc.kernel", &[3, 2], &kernel), ("other", &[], &[1.0])]).unwrap();
        let read = npy::read_weights(&file.0, &model).unwrap();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(read.parameters[0].0, "fc.kernel");
        assert_eq!(bits(&read.parameters[0].1), bits(&kernel));
        assert_eq!(
            (read.parameters.len(), read.missing, read.unused),
            (1, vec!["fc.bias".to_owned()], vec!["other".to_owned()])
        );
        for (expected, array) in [
            ("expected floating-point numbers [3, 2], got [2, 3]", ("fc.kernel", [2, 3])),
            ("name the arrays like the parameters", ("kernel", [3, 2])),
        ] {
            npy::write_npz(&file.0, &[(array.0, &array.1, &kernel)]).unwrap();
            let error = npy::read_weights(&file.0, &model).unwrap_err();
            assert!(
                matches!(error, Error::Checkpoint { .. }) && error.to_string().contains(expected),
                "{error}"
            );
        }
        let twice: &[(&str, &[usize], &[f32])] = &[("a", &[], &[1.0]), ("a", &[], &[2.0])];
        assert!(npy::write_npz(&file.0, twice).unwrap_err().to_string().contains("\"a\" twice"));

        let mask = array("|b1", "(3, 2)", &[1, 0, 0, 0, 0, 1]);
        std::fs::write(&file.0, archive(&[Entry::deflated("mask.fc.kernel.npy", &mask)])).unwrap();
        let masked = FreezeRule::from_file(&file.0, "mask.*");
        assert_eq!(masked.resolve("fc.bias", 2).unwrap_err().kind(), "data");
        let frozen = frazil::Mask::none(6).unwrap();
        let view =
            frazil::mask::TensorView { path: "fc.kernel", shape: &[3, 2], bits: None, frozen: &frozen };
        let masks = masked.resolve_all(&[view]).unwrap();
        assert_eq!(masks[0].frozen_indices().collect::<Vec<_>>(), [0, 5]);
    }

    #[test]
    fn written_weights_and_masks_are_read() {
        let file = File::new("both.npz");
        let model = Model::input([3, 3, 1]).conv2d("c", 2, [2, 2], |c| c).flatten().dense("fc", 2);
        let model = model.build().unwrap();
        let value = |(index, p): (usize, &frazil::layer::ParameterSpec)| {
            let values = (0..p.shape.elements()).map(|i| f32::from_bits((index * 1000 + i) as u32));
            (p.path.clone(), values.collect::<Vec<_>>())
        };
        let parameters: Vec<_> = model.parameters().iter().enumerate().map(value).collect();
        let mask = Mask::from_frozen((0..8).map(|i| i % 3 == 0));
        npy::write_weights(&file.0, &model, &parameters, &[("c.kernel".to_owned(), mask.clone())]).unwrap();
        let read = npy::read_weights(&file.0, &model).unwrap();
        assert_eq!((read.parameters, read.missing, read.unused), (parameters.clone(), vec![], vec![]));
        let arrays = npy::read_npz(&file.0).unwrap();
        let (_, flags) = arrays.iter().find(|(name, _)| name == "mask.c.kernel").unwrap();
        assert_eq!(flags.shape, [2, 2, 1, 2]);
        assert_eq!(flags.elements, Elements::Bool((0..8).map(|i| i % 3 == 0).collect()));
        let none = Mask::none(8).unwrap();
        let shape = [2, 2, 1, 2];
        let view = frazil::mask::TensorView { path: "c.kernel", shape: &shape, bits: None, frozen: &none };
        assert_eq!(FreezeRule::from_file(&file.0, "mask.*").resolve_all(&[view]).unwrap()[0], mask);

        let refused = |parameters: &[(String, Vec<f32>)], masks: &[(String, Mask)], part: &str| {
            let error = npy::write_weights(&file.0, &model, parameters, masks).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(&[("d.kernel".to_owned(), vec![])], &[], "d.kernel");
        refused(&[("c.bias".to_owned(), vec![1.0])], &[], "[2]");
        refused(&[], &[("c.bias".to_owned(), mask.clone())], "[2]");
        refused(&[], &[("c.kernel".to_owned(), mask.clone()), ("c.kernel".to_owned(), mask)], "twice");
        assert_eq!(npy::read_weights(&file.0, &model).unwrap().parameters, parameters, "nothing is written");
    }

    #[test]
    fn damaged_archives_are_named_errors() {
        let file = File::new("damaged.npz");
        let good = array("<f4", "(1,)", &[0; 4]);
        let read = |bytes: Vec<u8>| {
            std::fs::write(&file.0, bytes).unwrap();
            npy::read_npz(&file.0).map_err(|error| error.to_string())
        };
        assert_eq!(read(archive(&[Entry::stored("x.npy", &good)])).unwrap()[0].0, "x");
        let damaged = archive(&[Entry::stored("x.npy", &good[..20])]);
        assert!(read(damaged).unwrap_err().contains("entry \"x.npy\", byte 0"));
        let object = archive(&[Entry::stored("x.npy", &array("|O", "(1,)", b"cos\nsystem\n"))]);
        assert!(read(object).unwrap_err().contains("got \"|O\""));
        let bomb = Entry { size: 3 << 29, bytes: vec![0; 2 << 20], ..Entry::deflated("x.npy", &good) };
        assert!(read(archive(&[bomb])).unwrap_err().contains("write the archive without compression"));
    }

    #[test]
    fn soak_npz_files() {
        let file = File::new("soak.npz");
        let bytes = ["arrays.npz", "packed.npz"].map(|name| std::fs::read(stored(name)).unwrap());
        soak("npz files", 3, |random| {
            let original = &bytes[random.below(2)];
            let whole = random.below(8) == 0;
            std::fs::write(&file.0, if whole { original.clone() } else { damage(random, original) }).unwrap();
            npy::read_npz(&file.0).into()
        });
    }
}
