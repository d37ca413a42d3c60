//! Files of `torch.save`: what PyTorch writes is read exactly, and nothing else is read or run.

use crate::support::soak::{damage, pick, soak};
use crate::support::zip::{Entry, archive};
use crate::torch::{
    TORCH_NAMES, digits_cnn, error_of_logits, loaded, mini_resnet, mini_resnet_names, stored,
};
use frazil::interop::{TorchStateDict, Weights};
use frazil::{Error, Model};
use std::path::{Path, PathBuf};

/// Operations of a pickle, written as PyTorch's pickler writes them, but without the memo.
fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn int(value: i64) -> Vec<u8> {
    match i32::try_from(value) {
        Ok(value) => [b"J".as_slice(), &value.to_le_bytes()].concat(),
        Err(_) => [&[0x8a, 8], value.to_le_bytes().as_slice()].concat(),
    }
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".as_slice(), &items.concat(), b"t"].concat()
}

fn ints(values: &[i64]) -> Vec<u8> {
    tuple(&values.iter().map(|&value| int(value)).collect::<Vec<_>>())
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn call(function: Vec<u8>, arguments: &[Vec<u8>]) -> Vec<u8> {
    [function, tuple(arguments), b"R".to_vec()].concat()
}

fn storage(kind: &str, key: &str, elements: i64) -> Vec<u8> {
    let reference = [text("storage"), global("torch", kind), text(key), text("cpu"), int(elements)];
    [tuple(&reference), b"Q".to_vec()].concat()
}

fn tensor(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let hooks = call(global("collections", "OrderedDict"), &[]);
    let arguments = [storage, int(offset), ints(shape), ints(strides), vec![0x89], hooks];
    call(global("torch._utils", "_rebuild_tensor_v2"), &arguments)
}

fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<_> = items.iter().map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(".as_slice(), &items.concat(), b"u"].concat()
}

/// An `OrderedDict` with the attribute that PyTorch gives state dicts.
fn state_dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<_> = items.iter().map(|(key, value)| [text(key), value.clone()].concat()).collect();
    let empty = call(global("collections", "OrderedDict"), &[]);
    let metadata = dict(&[("_metadata", dict(&[("", dict(&[("version", int(1))]))]))]);
    [empty, b"(".to_vec(), items.concat(), b"u".to_vec(), metadata, b"b".to_vec()].concat()
}

fn pickle(body: &[u8]) -> Vec<u8> {
    [&[0x80, 2], body, b"."].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The entries of an archive with this pickle and these storages.
fn entries(body: &[u8], storages: &[(&str, Vec<u8>)]) -> Vec<Entry> {
    let mut entries =
        vec![Entry::stored("net/data.pkl", &pickle(body)), Entry::stored("net/byteorder", b"little")];
    entries.extend(storages.iter().map(|(key, bytes)| Entry::stored(&format!("net/data/{key}"), bytes)));
    entries
}

/// A file in the format before PyTorch 1.6.
fn old_file(body: &[u8], storages: &[(&str, i64, Vec<u8>)]) -> Vec<u8> {
    let magic =
        [&[0x8a, 10], [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19].as_slice()].concat();
    let system = dict(&[("protocol_version", int(1001)), ("little_endian", vec![0x88])]);
    let keys: Vec<_> = storages.iter().map(|(key, ..)| text(key)).collect();
    let keys = [b"](".as_slice(), &keys.concat(), b"e"].concat();
    let mut file: Vec<_> = [&magic, &int(1001), &system, body, &keys].map(pickle).concat();
    for (_, count, bytes) in storages {
        file.extend(count.to_le_bytes());
        file.extend(bytes);
    }
    file
}

/// `fc.kernel [3, 2]` and `fc.bias [2]`; PyTorch's `fc.weight` is `[2, 3]`.
fn model() -> Model {
    Model::input([3]).dense("fc", 2).build().unwrap()
}

const KERNEL: [f32; 6] = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0];

fn weight() -> Vec<u8> {
    tensor(storage("FloatStorage", "0", 6), 0, &[2, 3], &[3, 1])
}

fn bias() -> Vec<u8> {
    tensor(storage("FloatStorage", "1", 2), 0, &[2], &[1])
}

fn storages() -> [(&'static str, Vec<u8>); 2] {
    [("0", floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), ("1", floats(&[0.5, -0.5]))]
}

struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        File(std::env::temp_dir().join(format!("frazil-pth-{}-{name}", std::process::id())))
    }

    fn read(&self, bytes: &[u8]) -> frazil::Result<Weights> {
        std::fs::write(&self.0, bytes).unwrap();
        TorchStateDict::new(&model()).unwrap().read(&self.0)
    }

    fn refused(&self, bytes: &[u8]) -> String {
        let error = self.read(bytes).unwrap_err();
        assert!(matches!(error, Error::Data { .. } | Error::Checkpoint { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&self.0.display().to_string()), "{text}");
        text
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn pth_files_give_the_bits_of_the_safetensors_files() {
    let (digits, resnet) = (digits_cnn(TORCH_NAMES), mini_resnet());
    let digits_names = TorchStateDict::new(&digits).unwrap();
    let resnet_names = mini_resnet_names(&resnet);
    for (network, names, model) in
        [("digits_cnn", digits_names, digits), ("mini_resnet", resnet_names, resnet)]
    {
        let bits = |extension: &str| -> Vec<_> {
            let weights = names.read(stored(&format!("{network}.{extension}"))).unwrap();
            assert_eq!((weights.missing, weights.unused), (vec![], vec![]));
            let bits = |(path, values): (String, Vec<f32>)| {
                (path, values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            weights.parameters.into_iter().map(bits).collect()
        };
        assert_eq!(bits("pth"), bits("f32.safetensors"), "{network}");
        let error = error_of_logits(&loaded(model, &names, &format!("{network}.pth")), network);
        assert!(error <= 1e-5, "{network}: {error:e}");
    }
}

#[test]
fn forms_of_state_dicts_are_read() {
    let file = File::new("forms");
    let items = [("fc.weight", weight()), ("fc.bias", bias())];
    let parameter = |tensor: Vec<u8>| {
        let hooks = call(global("collections", "OrderedDict"), &[]);
        call(global("torch._utils", "_rebuild_parameter"), &[tensor, vec![0x88], hooks])
    };
    let parameters = [("fc.weight", parameter(weight())), ("fc.bias", parameter(bias()))];
    let before_0_4 = |key: &str, elements: i64, shape: &[i64], strides: &[i64]| {
        let arguments = [storage("FloatStorage", key, elements), int(0), ints(shape), ints(strides)];
        call(global("torch._utils", "_rebuild_tensor"), &arguments)
    };
    let first =
        [("fc.weight", before_0_4("0", 6, &[2, 3], &[3, 1])), ("fc.bias", before_0_4("1", 2, &[2], &[1]))];
    let momentum = dict(&[("m", tensor(storage("FloatStorage", "1", 2), 0, &[2], &[1]))]);
    // Two pairs as Python 2 wrote them.
    let pair = |key: &str, value: Vec<u8>| tuple(&[text(key), value]);
    let pairs = [b"](".as_slice(), &pair("fc.weight", weight()), &pair("fc.bias", bias()), b"e"].concat();
    let forms = [
        ("dict", dict(&items)),
        ("OrderedDict", state_dict(&items)),
        ("parameters", dict(&parameters)),
        ("PyTorch 0.3", dict(&first)),
        ("pairs", call(global("collections", "OrderedDict"), &[pairs])),
        (
            "state_dict",
            dict(&[("epoch", int(3)), ("state_dict", state_dict(&items)), ("ema", momentum.clone())]),
        ),
        (
            "one inside",
            dict(&[
                ("weights", state_dict(&items)),
                ("name", text("x")),
                ("loss", b"G\0\0\0\0\0\0\0\0".to_vec()),
            ]),
        ),
    ];
    for (form, body) in forms {
        for (kind, bytes) in [
            ("zip", archive(&entries(&body, &storages()))),
            ("old", old_file(&body, &storages().map(|(key, bytes)| (key, (bytes.len() / 4) as i64, bytes)))),
        ] {
            let weights = file.read(&bytes).unwrap_or_else(|error| panic!("{form}, {kind}: {error}"));
            let expected =
                [("fc.kernel".to_owned(), KERNEL.to_vec()), ("fc.bias".to_owned(), vec![0.5, -0.5])];
            assert_eq!(
                (weights.parameters.as_slice(), weights.missing),
                (expected.as_slice(), vec![]),
                "{form}, {kind}"
            );
        }
    }
    let two = dict(&[("a", state_dict(&items)), ("b", state_dict(&items))]);
    let error = file.refused(&archive(&entries(&two, &storages())));
    assert!(error.contains("[\"a\", \"b\"]") && error.contains("torch.save(net.state_dict()"), "{error}");
}

#[test]
fn element_types_and_strides_are_read() {
    let file = File::new("types");
    let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(half::f16::from_f32);
    let halves: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let brains =
        numbers.iter().flat_map(|number| half::bf16::from_f32(number.to_f32()).to_le_bytes()).collect();
    let doubles = numbers.iter().flat_map(|number| number.to_f64().to_le_bytes()).collect();
    for (kind, bytes) in [
        ("HalfStorage", halves),
        ("BFloat16Storage", brains),
        ("DoubleStorage", doubles),
        ("FloatStorage", storages()[0].1.clone()),
    ] {
        let weight = tensor(storage(kind, "0", 6), 0, &[2, 3], &[3, 1]);
        let count = tensor(storage("LongStorage", "n", 1), 0, &[], &[]);
        let used = tensor(storage("BoolStorage", "n", 8), 2, &[3], &[1]);
        let body = dict(&[("fc.weight", weight), ("num_batches_tracked", count), ("used", used)]);
        let weights = file.read(&archive(&entries(&body, &[("0", bytes), ("n", vec![1; 8])]))).unwrap();
        assert_eq!(weights.parameters, [("fc.kernel".to_owned(), KERNEL.to_vec())], "{kind}");
        assert_eq!((weights.missing, weights.unused), (vec!["fc.bias".to_owned()], vec![]), "{kind}");
    }
    // Transposed, every second element, one row for all, and a part of a storage that another tensor shares.
    let data = floats(&[9.0, 1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 9.0, 7.0]);
    for (offset, strides, expected) in [
        (1, [1, 2], KERNEL),
        (1, [0, 2], [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]),
        (1, [3, 1], [1.0, 5.0, 4.0, 3.0, 2.0, 6.0]),
        (8, [0, 0], [7.0; 6]),
    ] {
        let weight = tensor(storage("FloatStorage", "0", 9), offset, &[2, 3], &strides);
        let bias = tensor(storage("FloatStorage", "0", 9), 0, &[2], &[8]);
        let body = dict(&[("fc.weight", weight), ("fc.bias", bias)]);
        for bytes in [
            archive(&entries(&body, &[("0", data.clone())])),
            archive(&[Entry::deflated("net/data.pkl", &pickle(&body)), Entry::deflated("net/data/0", &data)]),
            old_file(&body, &[("0", 9, data.clone())]),
        ] {
            let weights = file.read(&bytes).unwrap();
            assert_eq!(weights.parameters[0].1, expected, "{offset} {strides:?}");
            assert_eq!(weights.parameters[1].1, [9.0, 7.0], "{offset} {strides:?}");
        }
    }
}

#[test]
fn masks_of_torch_save_are_read() {
    let file = File::new("masks");
    let mask = tensor(storage("BoolStorage", "0", 6), 0, &[2, 3], &[3, 1]);
    std::fs::write(
        &file.0,
        archive(&entries(&dict(&[("fc.weight", mask)]), &[("0", vec![1, 0, 0, 0, 0, 1])])),
    )
    .unwrap();
    let masks = TorchStateDict::new(&model()).unwrap().read_masks(&file.0).unwrap();
    let [(path, mask)] = masks.as_slice() else { panic!("{masks:?}") };
    // [out, in] to [in, out].
    assert_eq!((path.as_str(), mask.frozen_indices().collect::<Vec<_>>()), ("fc.kernel", vec![0, 5]));
}

/// A pickle is a program; none of these runs.
#[test]
fn pickles_that_call_code_are_named_errors() {
    let file = File::new("code");
    let made = File::new("made-by-a-pickle");
    let command = format!("touch {}", made.0.display());
    let calls = [
        ("os.system", call(global("os", "system"), &[text(&command)])),
        (
            "posix.system",
            [b"\x8c\x05posix\x8c\x06system\x93".to_vec(), tuple(&[text(&command)]), b"R".to_vec()].concat(),
        ),
        ("builtins.eval", call(global("builtins", "eval"), &[text("1")])),
        ("subprocess.Popen", [b"(".to_vec(), text(&command), b"isubprocess\nPopen\n".to_vec()].concat()),
        ("torch._utils._rebuild_tensor_v3", global("torch._utils", "_rebuild_tensor_v3")),
        ("__main__.Net", [global("__main__", "Net"), b")\x81".to_vec()].concat()),
        (
            "argparse.Namespace",
            dict(&[
                ("state_dict", dict(&[("fc.weight", weight())])),
                ("args", call(global("argparse", "Namespace"), &[])),
            ]),
        ),
        ("torch.storage.UntypedStorage", global("torch.storage", "UntypedStorage")),
    ];
    for (name, body) in calls {
        let system = dict(&[("fc.weight", weight()), ("x", body.clone())]);
        for bytes in [
            archive(&entries(&body, &storages())),
            archive(&entries(&system, &storages())),
            old_file(&body, &[]),
        ] {
            let error = file.refused(&bytes);
            assert!(
                error.contains(&format!("{name:?}")) && error.contains("nothing was run"),
                "{name}: {error}"
            );
            assert!(
                error.contains("torch.save(net.state_dict(), FILE)") && error.contains("byte "),
                "{name}: {error}"
            );
        }
    }
    // A pickle that no program of PyTorch wrote.
    let alone =
        [b"\x80\x02".to_vec(), call(global("os", "system"), &[text(&command)]), b".".to_vec()].concat();
    assert!(file.refused(&alone).contains("a pickle, which is not run"));
    assert!(!made.0.exists());
    // Only the functions that are known can be called, and only with their arguments.
    for body in [
        call(global("torch._utils", "_rebuild_tensor_v2"), &[int(1)]),
        call(global("torch", "FloatStorage"), &[int(1)]),
        call(text("collections.OrderedDict"), &[]),
        [global("torch", "FloatStorage"), b")\x81".to_vec()].concat(),
        [tuple(&[text("module"), text("x")]), b"Q".to_vec()].concat(),
        [weight(), dict(&[]), b"b".to_vec()].concat(),
    ] {
        let error = file.refused(&archive(&entries(&body, &storages())));
        assert!(error.contains("entry \"net/data.pkl\", byte "), "{error}");
    }
}

#[test]
fn sizes_that_the_file_cannot_have_are_named_errors() {
    let file = File::new("sizes");
    let with = |weight: Vec<u8>| archive(&entries(&dict(&[("fc.weight", weight)]), &storages()));
    let view = |elements: i64, offset: i64, shape: &[i64], strides: &[i64]| {
        with(tensor(storage("FloatStorage", "0", elements), offset, shape, strides))
    };
    let huge = i64::MAX;
    for (expected, bytes) in [
        ("within the 6 elements of storage \"0\"", view(6, 1, &[2, 3], &[3, 1])),
        ("within the 6 elements", view(6, 0, &[2, 3], &[3, 3])),
        ("within the 6 elements", view(6, huge, &[2, 3], &[3, 1])),
        ("within the 6 elements", view(6, 0, &[2, 3], &[huge, huge])),
        ("fits into memory", view(6, 0, &[huge, huge, 4], &[0, 0, 0])),
        ("at least 0, got -1", view(6, 3, &[2, 3], &[-1, 1])),
        ("a stride for each axis", view(6, 0, &[2, 3], &[1])),
        ("expected [2, 3] for fc.kernel, got [3, 2]", view(6, 0, &[3, 2], &[2, 1])),
        ("expected [2, 3] for fc.kernel, got [0, ", view(6, 0, &[0, huge, huge], &[1, 1, 1])),
        ("expected 28 bytes for the storage of \"fc.weight\", got 24 bytes", view(7, 0, &[2, 3], &[3, 1])),
        ("got 24 bytes", view(huge, 0, &[2, 3], &[3, 1])),
        ("got no such entry", with(tensor(storage("FloatStorage", "2", 6), 0, &[2, 3], &[3, 1]))),
        ("got I64", with(tensor(storage("LongStorage", "0", 3), 0, &[2, 3], &[0, 1]))),
        ("at most 16 integers", view(6, 0, &[1; 17], &[1; 17])),
    ] {
        let error = file.refused(&bytes);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // Elements that lie apart in a storage that the file has: the memory is that of the storage.
    let old = |count: i64, bytes: &[u8]| {
        let body = dict(&[("fc.weight", tensor(storage("FloatStorage", "0", 6), 0, &[2, 3], &[3, 1]))]);
        old_file(&body, &[("0", count, bytes.to_vec())])
    };
    let data = &storages()[0].1;
    let error = file.refused(&old(7, data));
    assert!(
        error.contains("storage \"0\"") && error.contains("expected 6 elements") && error.contains("got 7"),
        "{error}"
    );
    assert!(file.refused(&old(6, &data[..20])).contains("expected 6 elements"));
    let none = old_file(&dict(&[("fc.weight", weight())]), &[]);
    assert!(file.refused(&none).contains("storage \"0\" in the file, got none"));
}

#[test]
fn archives_that_lie_are_named_errors() {
    let file = File::new("archives");
    let body = dict(&[("fc.weight", weight()), ("fc.bias", bias())]);
    let good = entries(&body, &storages());
    assert!(file.read(&archive(&good)).unwrap().missing.is_empty());
    let changed = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = good.clone();
        change(&mut entries);
        archive(&entries)
    };
    for (expected, bytes) in [
        ("overlaps the entry", changed(&|e| e[3].offset = Some(0))),
        ("overlaps the entry", changed(&|e| e[3].offset = Some(20))),
        ("within the", changed(&|e| e[3].offset = Some(1 << 20))),
        ("one entry of this name, got two", changed(&|e| e[3].name = e[2].name.clone())),
        ("expected at most 24 bytes", changed(&|e| e[2].size = 1 << 30)),
        ("expected at most 24 bytes", changed(&|e| e[2].size = 8)),
        ("the checksum", changed(&|e| e[2].crc ^= 1)),
        ("the checksum", changed(&|e| e[2].bytes[5] ^= 1)),
        ("encrypted", changed(&|e| e[2].flags |= 1)),
        ("no compression or deflate", changed(&|e| (e[2].method, e[2].size) = (14, 24))),
        ("complete data", changed(&|e| e[2].method = 8)),
        ("expected \"little\"", changed(&|e| e[1] = Entry::stored("net/byteorder", b"big"))),
        ("NAME/data.pkl", changed(&|e| e[0].name = "net/other.pkl".to_owned())),
        ("complete zip archive", changed(&|_| ())[..100].to_vec()),
    ] {
        let error = file.refused(&bytes);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // The checksum that PyTorch writes if it is told to compute none.
    assert!(file.read(&changed(&|e| e[2].crc = 0)).is_ok());

    // Bombs: a ratio that deflate does not reach, a size above the limit, more or less data than announced.
    let packed = Entry::deflated("net/data/0", &storages()[0].1);
    let bomb = |size: u32, bytes: Option<Vec<u8>>| {
        let bytes = bytes.unwrap_or_else(|| packed.bytes.clone());
        changed(&|e| e[2] = Entry { size, bytes: bytes.clone(), ..packed.clone() })
    };
    assert!(file.read(&bomb(24, None)).is_ok());
    assert!(
        file.refused(&bomb(1 << 30, None)).contains("from 24 stored bytes, got 1073741824")
            || packed.bytes.len() != 24
    );
    assert!(file.refused(&bomb(u32::MAX - 1, None)).contains("the archive is damaged"));
    let error = file.refused(&bomb(3 << 29, Some(vec![0; 2 << 20])));
    assert!(error.contains("write the archive without compression"), "{error}");
    assert!(file.refused(&bomb(25, None)).contains("expected 25 bytes, got fewer"));
    let long = Entry::deflated("net/data/0", &[0; 25]).bytes;
    assert!(file.refused(&bomb(24, Some(long))).contains("expected 24 bytes, got more"));
}

#[test]
fn pickles_beyond_the_limits_are_named_errors() {
    let file = File::new("limits");
    let zip = |pickle: &[u8]| archive(&[Entry::stored("net/data.pkl", pickle)]);
    let repeated = |operation: &[u8], count: usize| pickle(&operation.repeat(count));
    let nested = [b"]".repeat(500_000), b"a".repeat(499_999)].concat();
    let dup = [&text("x"), b"2".repeat(2 << 20).as_slice()].concat();
    for (what, expected, bytes) in [
        ("nested lists", "expected a dict", pickle(&nested)),
        ("values", "1048576 values", repeated(b"]", 2 << 20)),
        ("marks", "1048576 values", repeated(b"(", 2 << 20)),
        ("stack", "1048576 values", pickle(&dup)),
        ("memo", "1048576 values", pickle(&[b"]".to_vec(), b"\x94".repeat(2 << 20)].concat())),
        ("long text", "expected 4294967295 more bytes", pickle(b"X\xff\xff\xff\xff")),
        ("long bytes", "more bytes", pickle(&[b"\x8e".as_slice(), &[0xff; 8]].concat())),
        ("long integer", "more bytes", pickle(b"\x8b\xff\xff\xff\xff")),
        ("size", "expected at most 33554432 bytes", vec![b'N'; (1 << 25) + 1]),
        (
            "dict in itself",
            "got tensors inside []",
            pickle(&[b"}q\0".to_vec(), text("x"), b"h\0s".to_vec()].concat()),
        ),
        ("list in itself", "expected a dict", pickle(b"]q\0h\0a")),
        ("name", "at most 255 bytes", pickle(&[b"c".to_vec(), b"a".repeat(300), b"\nb\n".to_vec()].concat())),
        ("operand", "expected an operand", pickle(b"(t0")),
        ("mark", "expected a mark", pickle(b"t")),
        ("memo", "the value 7 of the memo", pickle(b"h\x07")),
        ("key alone", "a key alone", pickle(b"}(Nu")),
        ("operation", "got 0x50", pickle(b"P1\n")),
        ("text", "UTF-8", pickle(b"X\x02\0\0\0\xff\xff")),
    ] {
        let error = file.refused(&zip(&bytes));
        assert!(error.contains(expected), "{what}: {error}");
    }
    // Every beginning of a pickle, and of a file in the old format.
    let complete = pickle(&state_dict(&[("fc.weight", weight()), ("fc.bias", bias())]));
    for end in 0..complete.len() {
        file.refused(&zip(&complete[..end]));
    }
    let old = old_file(&dict(&[("fc.weight", weight())]), &[("0", 6, storages()[0].1.clone())]);
    for end in 1..old.len() {
        file.read(&old[..end]).unwrap_err();
    }
    assert!(file.read(&old).is_ok());
}

#[test]
fn soak_torch_files() {
    let file = File::new("soak");
    let body = state_dict(&[
        ("fc.weight", weight()),
        ("fc.bias", bias()),
        ("n", tensor(storage("LongStorage", "2", 1), 0, &[], &[])),
    ]);
    let [first, second] = storages();
    let all = [first, second, ("2", vec![0; 8])];
    let deflated: Vec<_> = entries(&body, &all).iter().map(|e| Entry::deflated(&e.name, &e.bytes)).collect();
    let counted = all.clone().map(|(key, bytes)| (key, [6, 2, 1][key.parse::<usize>().unwrap()], bytes));
    let originals = [archive(&entries(&body, &all)), archive(&deflated), old_file(&body, &counted)];
    soak("files of torch.save", 5, |random| {
        let read = match random.below(8) {
            // Damage of the pickle alone: the archive around it is whole.
            0..4 => {
                let damaged = damage(random, &pickle(&body));
                let mut whole = entries(&body, &all);
                whole[0] = Entry::stored("net/data.pkl", &damaged);
                file.read(&archive(&whole))
            }
            4 => file.read(pick::<Vec<u8>>(random, &originals)),
            _ => {
                let original = pick(random, &originals).clone();
                file.read(&damage(random, &original))
            }
        };
        if let Ok(weights) = &read {
            for (path, values) in &weights.parameters {
                assert_eq!(values.len(), if path == "fc.kernel" { 6 } else { 2 });
            }
        }
        read.into()
    });
}

/// Real files with damage: what is accepted has the model's shapes.
#[test]
fn soak_files_of_pytorch() {
    let file = File::new("soak-real");
    let names = TorchStateDict::new(&digits_cnn(TORCH_NAMES)).unwrap();
    let bytes =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/digits_cnn.pth")).unwrap();
    let pickle_end = 1600;
    soak("digits_cnn.pth", 5, |random| {
        let mut damaged = bytes.clone();
        let directory = bytes.len() - 2500;
        match random.below(3) {
            0 => drop(damaged.splice(..pickle_end, damage(random, &bytes[..pickle_end]))),
            1 => drop(damaged.splice(directory.., damage(random, &bytes[directory..]))),
            _ => damaged = damage(random, &bytes),
        }
        std::fs::write(&file.0, &damaged).unwrap();
        let read = names.read(&file.0);
        if let Ok(weights) = &read {
            assert!(weights.parameters.iter().all(|(_, values)| !values.is_empty()));
        }
        read.into()
    });
}
