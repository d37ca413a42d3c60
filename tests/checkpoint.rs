//! Files: written, read back, continued from, damaged.

use crate::support::training::*;
use frazil::checkpoint::{Checkpoint, Tensor};
use frazil::graph::ParameterId;
use frazil::{
    Adam, AdamW, Error, FreezeRule, Loss, Mask, Model, Optimizer, Sgd, ThawPolicy, Trainer, TrainerOptions,
};
use std::path::{Path, PathBuf};

/// A folder of its own for one test, removed when it goes out of scope.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("frazil-checkpoint-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Why a file was refused.
fn why(result: frazil::Result<impl std::fmt::Debug>) -> String {
    match result {
        Err(Error::Checkpoint { why, .. }) => why,
        other => panic!("expected a checkpoint error, got {other:?}"),
    }
}

fn frozen_half(optimizer: Optimizer) -> Trainer {
    let mut t = trainer(optimizer, going_on());
    plant(&mut t, &ODD_FINITE_BITS);
    t
}

fn saved(folder: &Folder) -> (PathBuf, Trainer) {
    let mut t = frozen_half(Adam::new(0.01).into());
    train(&mut t, 5);
    let file = folder.file("whole.safetensors");
    t.save(&file).unwrap();
    (file, t)
}

/// F13: resume drops optimizer state, or is not bit-exact.
#[test]
fn f13_a_resumed_run_is_the_uninterrupted_one() {
    let folder = Folder::new("f13");
    for (name, optimizer) in optimizers() {
        let all = batches(14);
        let mut whole = frozen_half(optimizer.clone());
        all[..7].iter().for_each(|batch| whole.step(batch).unwrap());
        let (file, before) = (folder.file("half.safetensors"), snapshot(&whole));
        whole.set_learning_rate(0.02).unwrap();
        whole.save(&file).unwrap();
        let half = whole.digest().unwrap();
        all[7..].iter().for_each(|batch| whole.step(batch).unwrap());

        // Other first weights, and no mask of its own.
        let mut fresh = trainer(optimizer, TrainerOptions::batch(ROWS).seed(99));
        fresh.load(&file).unwrap();
        assert_eq!((fresh.digest().unwrap(), fresh.steps()), (half, 7), "{name}");
        assert!(snapshot(&fresh) == before, "{name}");
        let (old, new) = (whole.verify_frozen().unwrap(), fresh.verify_frozen().unwrap());
        assert_eq!((old.digest, old.changed()), (new.digest, 0), "{name}");
        all[7..].iter().for_each(|batch| fresh.step(batch).unwrap());
        assert_eq!(fresh.digest().unwrap(), whole.digest().unwrap(), "{name}");
        assert_ne!(fresh.digest().unwrap(), half, "{name}: it did train");
        assert_frozen(name, &fresh, &before);
        // And the files at the end are equal, too: the same bits, step, rate and seed.
        let files = [folder.file("a.safetensors"), folder.file("b.safetensors")];
        whole.save(&files[0]).unwrap();
        fresh.save(&files[1]).unwrap();
        assert!(std::fs::read(&files[0]).unwrap() == std::fs::read(&files[1]).unwrap(), "{name}");
    }
}

/// F10: copying a model loses its mask, or shares it.
#[test]
fn f10_two_trainers_from_one_file_have_masks_of_their_own() {
    let folder = Folder::new("f10");
    let (file, original) = saved(&folder);
    let load = || {
        let mut t = trainer(Adam::new(0.01).into(), going_on());
        t.load(&file).unwrap();
        t
    };
    let (mut first, mut second) = (load(), load());
    assert_eq!(first.frozen_count(), original.frozen_count());
    let before = snapshot(&second);
    first.thaw("*", FreezeRule::all(), ThawPolicy::ZeroState).unwrap();
    train(&mut first, 4);
    assert!(snapshot(&second) == before, "training one does not touch the other");
    train(&mut second, 4);
    assert_frozen("second", &second, &before);
    assert_eq!((first.frozen_count(), second.frozen_count()), (0, original.frozen_count()));
    assert!(snapshot(&original) == before);
}

/// F11: the mask is stored twice, or as floats.
#[test]
fn f11_a_mask_takes_a_bit_an_element() {
    let folder = Folder::new("f11");
    let size = |rule: FreezeRule, name: &str| {
        let mut t = trainer(Sgd::new(0.05).momentum(0.9).into(), going_on());
        t.freeze("*", rule).unwrap();
        t.save(folder.file(name)).unwrap();
        Checkpoint::read(&folder.file(name)).unwrap()
    };
    let bytes = |file: &Checkpoint| file.tensors().iter().map(|(_, t)| 4 * t.bits().len()).sum::<usize>();
    let (plain, half) = (size(FreezeRule::none(), "none"), size(FreezeRule::random(0.5), "half"));
    // conv 90 + 5, fc 500 + 4: weights and one slot, then a word for 32 bits.
    assert_eq!(bytes(&plain), 2 * 4 * 599);
    assert_eq!(bytes(&half) - bytes(&plain), 4 * (3 + 1 + 16 + 1));
    let masks = |file: &Checkpoint| file.tensors().iter().filter(|(n, _)| n.starts_with("mask.")).count();
    assert_eq!((masks(&plain), masks(&half)), (0, 4));
}

/// F12: a mask is saved, but cannot be loaded for further training.
#[test]
fn f12_a_loaded_mask_can_be_trained_with_extended_and_thawed() {
    let folder = Folder::new("f12");
    let (file, original) = saved(&folder);
    let mut t = trainer(Adam::new(0.01).into(), going_on());
    t.load(&file).unwrap();
    let before = snapshot(&t);
    train(&mut t, 3);
    assert_frozen("loaded", &t, &before);
    assert!(moved(&t, &before).0 > 0);
    let more = t.freeze("fc.kernel", FreezeRule::all()).unwrap();
    assert_eq!(more, t.mask("fc.kernel").unwrap().complement().len() - 250);
    let before = snapshot(&t);
    train(&mut t, 3);
    assert_frozen("extended", &t, &before);
    let mask = original.mask("fc.kernel").unwrap();
    t.thaw("fc.kernel", FreezeRule::mask(mask.clone()), ThawPolicy::KeepState).unwrap();
    train(&mut t, 3);
    let after = snapshot(&t);
    assert!(mask.frozen_indices().any(|i| before.0[2][0][i] != after.0[2][0][i]), "thawed ones move again");
    assert_eq!(t.verify_frozen().unwrap().changed(), 0);
}

/// What the file's own digest of frozen elements says is what the device says.
#[test]
fn digests_of_the_file_are_those_of_the_device() {
    let folder = Folder::new("digests");
    let (file, t) = saved(&folder);
    let read = Checkpoint::read(&file).unwrap();
    assert_eq!(read.parameters(), ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"]);
    assert_eq!(read.frozen_digest(), t.verify_frozen().unwrap().digest);
    assert_eq!(read.training_digest(), Some(t.digest().unwrap()));
    assert_eq!(read.slots(), ["m", "v"]);
    assert_eq!(&read.mask("fc.kernel"), t.mask("fc.kernel").unwrap());
    assert_eq!(read.notes()["step"], "5");
    assert!(read.notes()["mask"].contains("1 = frozen") && read.notes()["version"] == "1");
}

/// A trainer that a file was refused by is as it was: every bit, the step, and what it does next.
fn refuses(t: &mut Trainer, file: &Path, part: &str) {
    let (before, digest, frozen, steps) = (snapshot(t), t.digest().unwrap(), t.frozen_count(), t.steps());
    let message = why(t.load(file));
    assert!(message.contains(part), "expected {part:?} in {message:?}");
    assert!(snapshot(t) == before && t.digest().unwrap() == digest);
    assert_eq!((t.frozen_count(), t.steps()), (frozen, steps));
}

#[test]
fn another_model_or_optimizer_is_named_and_nothing_changes() {
    let folder = Folder::new("other");
    let (file, _) = saved(&folder);
    let other = |optimizer: Optimizer, part: &str| {
        let mut t = trainer(optimizer, going_on());
        t.freeze("conv.kernel", FreezeRule::random(0.3)).unwrap();
        train(&mut t, 2);
        refuses(&mut t, &file, part);
    };
    other(Sgd::new(0.01).into(), "expected \"sgd momentum=0 ");
    other(AdamW::new(0.01).into(), "adamw");
    other(Adam::new(0.01).betas(0.8, 0.999).into(), "beta1=0.8 beta2=0.999");
    other(Adam::new(0.01).weight_decay(0.1).into(), "weight-decay=0.1");
    let models = [
        (
            Model::input([5, 5, 2]).flatten().dense("fc", 4),
            "expected parameters [\"fc.kernel\", \"fc.bias\"]",
        ),
        (Model::input([5, 5, 2]).conv2d("conv", 5, [3, 3], |c| c).flatten().dense("fc", 4), "[45, 4]"),
    ];
    for (model, part) in models {
        let options = TrainerOptions::batch(ROWS);
        let model = model.build().unwrap();
        let gpu = crate::support::device::gpu();
        let mut t = Trainer::new(gpu, model, Loss::SoftmaxCrossEntropy, Adam::new(0.01), options).unwrap();
        refuses(&mut t, &file, part);
    }
}

/// Files whose checksum is right, but whose content no trainer wrote.
#[test]
fn wrong_content_is_named_by_tensor() {
    let folder = Folder::new("content");
    let (file, _) = saved(&folder);
    let whole = Checkpoint::read(&file).unwrap();
    let rewritten = folder.file("rewritten.safetensors");
    let mut t = trainer(Adam::new(0.01).into(), going_on());
    let mut case =
        |part: &str, change: &dyn Fn(&str, &Tensor) -> Option<Tensor>, note: Option<(&str, &str)>| {
            let mut copy = Checkpoint::default();
            whole.notes().iter().for_each(|(name, value)| copy.note(name, value));
            if let Some((name, value)) = note {
                copy.note(name, value);
            }
            for (name, tensor) in whole.tensors() {
                if let Some(tensor) = change(name, tensor) {
                    copy.push(name.clone(), tensor);
                }
            }
            copy.write(&rewritten).unwrap();
            refuses(&mut t, &rewritten, part);
        };
    let same = |_: &str, tensor: &Tensor| Some(tensor.clone());
    case("\"fc.bias\": expected f32 [4], got no such", &|n, t| (n != "fc.bias").then(|| t.clone()), None);
    case("state.v.fc.bias", &|n, t| (n != "state.v.fc.bias").then(|| t.clone()), None);
    let short = |n: &str, t: &Tensor| {
        Some(if n == "state.m.conv.bias" {
            Tensor::f32_bits(vec![4], t.bits()[..4].to_vec())
        } else {
            t.clone()
        })
    };
    case("\"state.m.conv.bias\": expected f32 [5], got f32 [4]", &short, None);
    let integers = |n: &str, t: &Tensor| {
        Some(if n == "fc.bias" { Tensor::u32(vec![4], t.bits().to_vec()) } else { t.clone() })
    };
    case("\"fc.bias\": expected f32 [4], got u32 [4]", &integers, None);
    let words = |n: &str, t: &Tensor| {
        Some(if n == "mask.fc.kernel" { Tensor::u32(vec![15], t.bits()[..15].to_vec()) } else { t.clone() })
    };
    case("\"mask.fc.kernel\": expected u32 [16], got u32 [15]", &words, None);
    // One frozen weight, one frozen state element, one mask bit: the digest of frozen elements tells.
    let frozen = whole.mask("fc.kernel").frozen_indices().next().unwrap();
    for name in ["fc.kernel", "state.v.fc.kernel"] {
        let flip = |n: &str, t: &Tensor| {
            let mut bits = t.bits().to_vec();
            bits[frozen.min(t.bits().len() - 1)] ^= u32::from(n == name);
            Some(if t.dtype() == "f32" { Tensor::f32_bits(t.shape().to_vec(), bits) } else { t.clone() })
        };
        case("frozen: expected", &flip, None);
    }
    let thawed = |n: &str, t: &Tensor| {
        let bits = t.bits().iter().map(|b| if n == "mask.fc.kernel" { b << 1 } else { *b }).collect();
        Some(if t.dtype() == "u32" { Tensor::u32(t.shape().to_vec(), bits) } else { t.clone() })
    };
    case("frozen: expected", &thawed, None);
    case("frozen: expected", &|n, t| (n != "mask.fc.kernel").then(|| t.clone()), None);
    for note in ["step", "draws", "seed", "learning_rate"] {
        case(&format!("{note}: expected a number, got \"many\""), &same, Some((note, "many")));
    }
    case("learning rate", &same, Some(("learning_rate", "-1")));
    case("learning rate", &same, Some(("learning_rate", "NaN")));
    case("parameters", &same, Some(("parameter.4", "more")));

    let mut copy = whole.clone();
    copy.push("extra".into(), Tensor::u32(vec![1], vec![0]));
    copy.write(&rewritten).unwrap();
    refuses(&mut t, &rewritten, "\"extra\": expected none");
    // The good file is taken all the same, after all of that.
    whole.write(&rewritten).unwrap();
    t.load(&rewritten).unwrap();
    assert_eq!(t.steps(), 5);
}

/// Every bit of the file is covered: no flip and no cut is taken.
#[test]
fn damage_anywhere_is_refused() {
    let folder = Folder::new("damage");
    let (file, _) = saved(&folder);
    let bytes = std::fs::read(&file).unwrap();
    let damaged = folder.file("damaged.safetensors");
    let mut t = trainer(Adam::new(0.01).into(), going_on());
    let mut refused = |bytes: &[u8], what: String| {
        std::fs::write(&damaged, bytes).unwrap();
        match t.load(&damaged) {
            Err(Error::Checkpoint { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
    };
    // All lengths near the seams, and a sample of the rest.
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let near = |at: usize| at.saturating_sub(9)..at + 9;
    let lengths = near(8).chain(near(header)).chain(near(bytes.len())).chain((0..bytes.len()).step_by(61));
    for length in lengths.filter(|&length| length < bytes.len()) {
        refused(&bytes[..length], format!("cut to {length}"));
    }
    refused(&[&bytes[..], &[0]].concat(), "longer".into());
    // Each byte of the header, and a sample of the data; the bit goes round.
    for at in (0..header).chain((header..bytes.len()).step_by(7)) {
        let mut copy = bytes.clone();
        copy[at] ^= 1 << (at % 8);
        refused(&copy, format!("byte {at}, bit {}", at % 8));
    }
    for length in [u64::MAX, 1 << 62, 1 << 40, 100_000_001, 99_999_999] {
        let mut copy = bytes.clone();
        copy[..8].copy_from_slice(&length.to_le_bytes());
        refused(&copy, format!("header of {length} bytes"));
    }
    assert_eq!(t.steps(), 0);
}

/// A kill in mid-write leaves a part of the new file beside the older one, which is whole.
#[test]
fn an_interrupted_write_leaves_the_older_file() {
    let folder = Folder::new("partial");
    let (file, mut t) = saved(&folder);
    let older = std::fs::read(&file).unwrap();
    let beside = folder.file("whole.safetensors.partial");
    std::fs::write(&beside, &older[..older.len() / 2]).unwrap();
    let mut fresh = trainer(Adam::new(0.01).into(), going_on());
    fresh.load(&file).unwrap();
    assert_eq!(fresh.digest().unwrap(), t.digest().unwrap());
    // The next write goes over what is left.
    train(&mut t, 1);
    t.save(&file).unwrap();
    assert!(!beside.exists() && std::fs::read(&file).unwrap() != older);
    fresh.load(&file).unwrap();
    assert_eq!(fresh.digest().unwrap(), t.digest().unwrap());
    // A write that fails leaves the older file, too: its place beside is taken by a folder.
    let newer = std::fs::read(&file).unwrap();
    std::fs::create_dir(&beside).unwrap();
    train(&mut t, 1);
    assert!(matches!(t.save(&file), Err(Error::Io { .. })));
    assert!(std::fs::read(&file).unwrap() == newer);
}

#[test]
fn what_is_no_file_of_ours_is_refused() {
    let folder = Folder::new("foreign");
    let mut t = trainer(Sgd::new(0.1).into(), going_on());
    assert!(matches!(t.load(folder.file("missing")), Err(Error::Io { .. })));
    assert!(why(t.load(&folder.0)).contains("regular file"));
    let file = folder.file("foreign.safetensors");
    let view = |dtype, bytes| safetensors::tensor::TensorView::new(dtype, vec![4], bytes).unwrap();
    let floats =
        safetensors::serialize([("fc.bias", view(safetensors::Dtype::F32, &[0; 16]))], None).unwrap();
    std::fs::write(&file, floats).unwrap();
    assert!(why(t.load(&file)).contains("load_weights"));
    let halves = safetensors::serialize([("fc.bias", view(safetensors::Dtype::F16, &[0; 8]))], None).unwrap();
    std::fs::write(&file, halves).unwrap();
    assert!(why(t.load(&file)).contains("\"fc.bias\": expected F32 or U32, got F16"));
    assert!(why(t.save_with_notes(&file, &[("a", "two\nlines".into())])).contains("one line"));
}

#[test]
fn weights_alone_are_loaded_by_path_around_frozen_ones() {
    let folder = Folder::new("weights");
    let (file, source) = saved(&folder);
    let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), TrainerOptions::batch(ROWS).seed(8));
    let mask = Mask::from_frozen((0..90).map(|i| i % 4 == 0));
    t.set_and_freeze("conv.kernel", &[f32::from_bits(0x8000_0000); 90], &mask).unwrap();
    train(&mut t, 2);
    let before = snapshot(&t);
    assert_eq!(t.load_weights(&file, "conv.*").unwrap(), 2);
    let (after, given) = (snapshot(&t), snapshot(&source));
    for i in 0..90 {
        let from = if mask.is_frozen(i) { &before } else { &given };
        assert_eq!(after.0[0][0][i], from.0[0][0][i], "element {i}");
    }
    assert!(after.0[1][0] == given.0[1][0] && after.0[2] == before.0[2], "the glob alone decides");
    assert!(after.0[0][1] == before.0[0][1] && t.steps() == 2, "state and step stay");
    assert_eq!(t.verify_frozen().unwrap().changed(), 0);

    assert!(matches!(t.load_weights(&file, "pool*"), Err(Error::UnknownParameter { .. })));
    let mut foreign = Checkpoint::default();
    foreign.push("conv.kernel".into(), Tensor::f32_bits(vec![90], vec![0; 90]));
    foreign.push("conv.bias".into(), Tensor::f32_bits(vec![5], vec![1; 5]));
    foreign.write(&file).unwrap();
    assert!(
        why(t.load_weights(&file, "*")).contains("\"conv.kernel\": expected f32 [3, 3, 2, 5], got f32 [90]")
    );
    assert!(why(t.load_weights(&file, "*.bias")).contains("\"fc.bias\""));
    assert!(snapshot(&t) == after, "nothing was set");
    assert_eq!(t.load_weights(&file, "conv.bias").unwrap(), 1);
    assert_eq!(t.store().read_weights(ParameterId::of(1)).unwrap(), [1; 5]);
}
