//! Tests of checkpoints: writing, reading, resuming, and rejecting damaged or incompatible files.

use crate::support::training::*;
use frazil::checkpoint::{Checkpoint, Tensor};
use frazil::low_level::ParameterId;
use frazil::{
    Adam, AdamW, Error, FreezeRule, Loss, LrSchedule, Mask, Model, Optimizer, Sgd, ThawPolicy, Trainer,
    TrainerOptions,
};
use std::path::{Path, PathBuf};

/// Temporary folder of one test, removed on drop.
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

/// Returns the reason (`why`) of an expected checkpoint error. Panics for any other result.
fn checkpoint_error(result: frazil::Result<impl std::fmt::Debug>) -> String {
    match result {
        Err(Error::Checkpoint { why, .. }) => why,
        other => panic!("expected a checkpoint error, got {other:?}"),
    }
}

fn half_frozen_trainer(optimizer: Optimizer) -> Trainer {
    let mut t = trainer(optimizer, continuing());
    freeze_half_at(&mut t, &ODD_FINITE_BITS);
    t
}

/// Trains a model with half of its elements frozen for 5 Adam steps and saves it. Returns the path of the
/// checkpoint and the trainer.
fn saved_trainer(folder: &Folder) -> (PathBuf, Trainer) {
    let mut t = half_frozen_trainer(Adam::new(0.01).into());
    train(&mut t, 5);
    let file = folder.file("saved.safetensors");
    t.save(&file).unwrap();
    (file, t)
}

/// Regression test F13 (docs/masks.md): a resumed run must restore all optimizer state and continue bit for
/// bit like the uninterrupted run.
#[test]
fn f13_resumed_run_equals_the_uninterrupted_run() {
    let folder = Folder::new("f13");
    for (name, optimizer) in optimizers() {
        let all = batches(14);
        let mut uninterrupted = half_frozen_trainer(optimizer.clone());
        all[..7].iter().for_each(|batch| uninterrupted.step(batch).unwrap());
        let (file, before) = (folder.file("middle.safetensors"), snapshot(&uninterrupted));
        uninterrupted.set_learning_rate(0.02).unwrap();
        uninterrupted.save(&file).unwrap();
        let middle = uninterrupted.digest().unwrap();
        all[7..].iter().for_each(|batch| uninterrupted.step(batch).unwrap());

        // The resumed trainer has other initial weights and no mask, so that the comparison fails unless
        // everything is loaded from the file.
        let mut resumed = trainer(optimizer, TrainerOptions::batch(ROWS).seed(99));
        resumed.load(&file).unwrap();
        assert_eq!((resumed.digest().unwrap(), resumed.steps()), (middle, 7), "{name}");
        assert!(snapshot(&resumed) == before, "{name}");
        let reports = (uninterrupted.verify_frozen().unwrap(), resumed.verify_frozen().unwrap());
        assert_eq!((reports.0.digest, reports.0.changed()), (reports.1.digest, 0), "{name}");
        all[7..].iter().for_each(|batch| resumed.step(batch).unwrap());
        assert_eq!(resumed.digest().unwrap(), uninterrupted.digest().unwrap(), "{name}");
        assert_ne!(resumed.digest().unwrap(), middle, "{name}: nothing was trained");
        assert_frozen(name, &resumed, &before);
        // The checkpoints of both trainers must be equal files. They contain all weights and state, the step,
        // the learning rate and the seed.
        let files = [folder.file("a.safetensors"), folder.file("b.safetensors")];
        uninterrupted.save(&files[0]).unwrap();
        resumed.save(&files[1]).unwrap();
        assert!(std::fs::read(&files[0]).unwrap() == std::fs::read(&files[1]).unwrap(), "{name}");
    }
}

/// Regression test F10 (docs/masks.md): a copy of a model must have the same mask as the original, and the
/// two masks must be independent.
#[test]
fn f10_two_trainers_from_one_file_have_separate_masks() {
    let folder = Folder::new("f10");
    let (file, original) = saved_trainer(&folder);
    let load = || {
        let mut t = trainer(Adam::new(0.01).into(), continuing());
        t.load(&file).unwrap();
        t
    };
    let (mut first, mut second) = (load(), load());
    assert_eq!(first.frozen_count(), original.frozen_count());
    let before = snapshot(&second);
    first.thaw("*", FreezeRule::all(), ThawPolicy::ZeroState).unwrap();
    train(&mut first, 4);
    assert!(snapshot(&second) == before, "training one trainer changed the other");
    train(&mut second, 4);
    assert_frozen("second", &second, &before);
    assert_eq!((first.frozen_count(), second.frozen_count()), (0, original.frozen_count()));
    assert!(snapshot(&original) == before);
}

/// Regression test F11 (docs/masks.md): a checkpoint stores each mask once, as one bit per element.
#[test]
fn f11_mask_is_stored_as_one_bit_per_element() {
    let folder = Folder::new("f11");
    let save = |rule: FreezeRule, name: &str| {
        let mut t = trainer(Sgd::new(0.05).momentum(0.9).into(), continuing());
        t.freeze("*", rule).unwrap();
        t.save(folder.file(name)).unwrap();
        Checkpoint::read(&folder.file(name)).unwrap()
    };
    let bytes = |file: &Checkpoint| file.tensors().iter().map(|(_, t)| 4 * t.bits().len()).sum::<usize>();
    let (unfrozen, half) = (save(FreezeRule::none(), "none"), save(FreezeRule::random(0.5), "half"));
    // Both checkpoints store 599 elements (conv: 90 + 5, fc: 500 + 4) twice, as f32 weights and as one slot
    // of optimizer state. The half-frozen one also stores one u32 mask word per 32 elements of each
    // parameter.
    assert_eq!(bytes(&unfrozen), 2 * 4 * 599);
    assert_eq!(bytes(&half) - bytes(&unfrozen), 4 * (3 + 1 + 16 + 1));
    let masks = |file: &Checkpoint| file.tensors().iter().filter(|(n, _)| n.starts_with("mask.")).count();
    assert_eq!((masks(&unfrozen), masks(&half)), (0, 4));
}

/// Regression test F12 (docs/masks.md): a mask loaded from a checkpoint must apply to further training, and
/// can be extended and thawed.
#[test]
fn f12_loaded_mask_can_be_trained_extended_and_thawed() {
    let folder = Folder::new("f12");
    let (file, original) = saved_trainer(&folder);
    let mut t = trainer(Adam::new(0.01).into(), continuing());
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
    assert!(
        mask.frozen_indices().any(|i| before.0[2][0][i] != after.0[2][0][i]),
        "thawed elements change again"
    );
    assert_eq!(t.verify_frozen().unwrap().changed(), 0);
}

#[test]
fn digests_of_a_file_equal_those_of_the_device() {
    let folder = Folder::new("digests");
    let (file, t) = saved_trainer(&folder);
    let read = Checkpoint::read(&file).unwrap();
    assert_eq!(read.parameters(), ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"]);
    assert_eq!(read.frozen_digest(), t.verify_frozen().unwrap().digest);
    assert_eq!(read.training_digest(), Some(t.digest().unwrap()));
    assert_eq!(read.slots(), ["m", "v"]);
    assert_eq!(&read.mask("fc.kernel"), t.mask("fc.kernel").unwrap());
    assert_eq!(read.notes()["step"], "5");
    assert!(read.notes()["mask"].contains("1 = frozen") && read.notes()["version"] == "1");
}

/// Asserts that loading fails with an error that contains `part`, and changes neither weights, state, masks
/// nor the step.
fn assert_load_fails(t: &mut Trainer, file: &Path, part: &str) {
    let (before, digest, frozen, steps) = (snapshot(t), t.digest().unwrap(), t.frozen_count(), t.steps());
    let message = checkpoint_error(t.load(file));
    assert!(message.contains(part), "expected {part:?} in {message:?}");
    assert!(snapshot(t) == before && t.digest().unwrap() == digest);
    assert_eq!((t.frozen_count(), t.steps()), (frozen, steps));
}

#[test]
fn loading_for_another_model_or_optimizer_is_an_error() {
    let folder = Folder::new("other");
    let (file, _) = saved_trainer(&folder);
    let check_optimizer = |optimizer: Optimizer, part: &str| {
        let mut t = trainer(optimizer, continuing());
        t.freeze("conv.kernel", FreezeRule::random(0.3)).unwrap();
        train(&mut t, 2);
        assert_load_fails(&mut t, &file, part);
    };
    check_optimizer(Sgd::new(0.01).into(), "expected \"sgd momentum=0 ");
    check_optimizer(AdamW::new(0.01).into(), "adamw");
    check_optimizer(Adam::new(0.01).betas(0.8, 0.999).into(), "beta1=0.8 beta2=0.999");
    check_optimizer(Adam::new(0.01).weight_decay(0.1).into(), "weight-decay=0.1");
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
        assert_load_fails(&mut t, &file, part);
    }
}

/// Loading rejects files whose checksum is valid but whose content is inconsistent, and the error names the
/// tensor or the note (metadata entry).
#[test]
fn inconsistent_content_is_reported_by_tensor_or_note() {
    let folder = Folder::new("content");
    let (file, _) = saved_trainer(&folder);
    let valid = Checkpoint::read(&file).unwrap();
    let rewritten = folder.file("rewritten.safetensors");
    let mut t = trainer(Adam::new(0.01).into(), continuing());
    let mut check =
        |part: &str, change: &dyn Fn(&str, &Tensor) -> Option<Tensor>, note: Option<(&str, &str)>| {
            let mut copy = Checkpoint::default();
            valid.notes().iter().for_each(|(name, value)| copy.note(name, value));
            if let Some((name, value)) = note {
                copy.note(name, value);
            }
            for (name, tensor) in valid.tensors() {
                if let Some(tensor) = change(name, tensor) {
                    copy.push(name.clone(), tensor);
                }
            }
            copy.write(&rewritten).unwrap();
            assert_load_fails(&mut t, &rewritten, part);
        };
    let same = |_: &str, tensor: &Tensor| Some(tensor.clone());
    check("\"fc.bias\": expected f32 [4], got none", &|n, t| (n != "fc.bias").then(|| t.clone()), None);
    check("state.v.fc.bias", &|n, t| (n != "state.v.fc.bias").then(|| t.clone()), None);
    let short = |n: &str, t: &Tensor| {
        Some(if n == "state.m.conv.bias" {
            Tensor::f32_bits(vec![4], t.bits()[..4].to_vec())
        } else {
            t.clone()
        })
    };
    check("\"state.m.conv.bias\": expected f32 [5], got f32 [4]", &short, None);
    let integers = |n: &str, t: &Tensor| {
        Some(if n == "fc.bias" { Tensor::u32(vec![4], t.bits().to_vec()) } else { t.clone() })
    };
    check("\"fc.bias\": expected f32 [4], got u32 [4]", &integers, None);
    let words = |n: &str, t: &Tensor| {
        Some(if n == "mask.fc.kernel" { Tensor::u32(vec![15], t.bits()[..15].to_vec()) } else { t.clone() })
    };
    check("\"mask.fc.kernel\": expected u32 [16], got u32 [15]", &words, None);
    // The checkpoint stores a digest of all frozen elements. Loading must detect one flipped bit of a frozen
    // weight, of frozen optimizer state or of a mask.
    let frozen = valid.mask("fc.kernel").frozen_indices().next().unwrap();
    for name in ["fc.kernel", "state.v.fc.kernel"] {
        let flip = |n: &str, t: &Tensor| {
            let mut bits = t.bits().to_vec();
            bits[frozen.min(t.bits().len() - 1)] ^= u32::from(n == name);
            Some(if t.dtype() == "f32" { Tensor::f32_bits(t.shape().to_vec(), bits) } else { t.clone() })
        };
        check("frozen: expected", &flip, None);
    }
    let thawed = |n: &str, t: &Tensor| {
        let bits = t.bits().iter().map(|b| if n == "mask.fc.kernel" { b << 1 } else { *b }).collect();
        Some(if t.dtype() == "u32" { Tensor::u32(t.shape().to_vec(), bits) } else { t.clone() })
    };
    check("frozen: expected", &thawed, None);
    check("frozen: expected", &|n, t| (n != "mask.fc.kernel").then(|| t.clone()), None);
    for note in ["step", "draws", "seed", "learning_rate"] {
        check(&format!("{note}: expected a number, got \"many\""), &same, Some((note, "many")));
    }
    check("learning rate", &same, Some(("learning_rate", "-1")));
    check("learning rate", &same, Some(("learning_rate", "NaN")));
    check("parameters", &same, Some(("parameter.4", "more")));

    let mut copy = valid.clone();
    copy.push("extra".into(), Tensor::u32(vec![1], vec![0]));
    copy.write(&rewritten).unwrap();
    assert_load_fails(&mut t, &rewritten, "got \"extra\"");
    // The valid file can still be loaded into the same trainer after all rejected ones.
    valid.write(&rewritten).unwrap();
    t.load(&rewritten).unwrap();
    assert_eq!(t.steps(), 5);
}

/// Truncation at any length and a flip of any bit are detected.
#[test]
fn damage_anywhere_is_an_error() {
    let folder = Folder::new("damage");
    let (file, _) = saved_trainer(&folder);
    let bytes = std::fs::read(&file).unwrap();
    let damaged = folder.file("damaged.safetensors");
    let mut t = trainer(Adam::new(0.01).into(), continuing());
    let mut assert_fails = |bytes: &[u8], what: String| {
        std::fs::write(&damaged, bytes).unwrap();
        match t.load(&damaged) {
            Err(Error::Checkpoint { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
    };
    // Truncates the file at all lengths near the start and the end of the header and the end of the data, and
    // at every 61st length.
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let near = |boundary: usize| boundary.saturating_sub(9)..boundary + 9;
    let lengths = near(8).chain(near(header)).chain(near(bytes.len())).chain((0..bytes.len()).step_by(61));
    for length in lengths.filter(|&length| length < bytes.len()) {
        assert_fails(&bytes[..length], format!("cut to {length}"));
    }
    assert_fails(&[&bytes[..], &[0]].concat(), "longer".into());
    // Flips one bit in each byte of the header, and in every 7th byte of the data.
    for at in (0..header).chain((header..bytes.len()).step_by(7)) {
        let mut copy = bytes.clone();
        copy[at] ^= 1 << (at % 8);
        assert_fails(&copy, format!("byte {at}, bit {}", at % 8));
    }
    for length in [u64::MAX, 1 << 62, 1 << 40, 100_000_001, 99_999_999] {
        let mut copy = bytes.clone();
        copy[..8].copy_from_slice(&length.to_le_bytes());
        assert_fails(&copy, format!("header of {length} bytes"));
    }
    assert_eq!(t.steps(), 0);
}

/// A process killed while it writes leaves a partial temporary file next to the intact old checkpoint.
#[test]
fn interrupted_or_failed_write_keeps_the_old_file() {
    let folder = Folder::new("partial");
    let (file, mut t) = saved_trainer(&folder);
    let old = std::fs::read(&file).unwrap();
    let partial = folder.file("saved.safetensors.partial");
    std::fs::write(&partial, &old[..old.len() / 2]).unwrap();
    let mut resumed = trainer(Adam::new(0.01).into(), continuing());
    resumed.load(&file).unwrap();
    assert_eq!(resumed.digest().unwrap(), t.digest().unwrap());
    // The next save replaces the old checkpoint, although the partial temporary file exists.
    train(&mut t, 1);
    t.save(&file).unwrap();
    assert!(std::fs::read(&file).unwrap() != old);
    resumed.load(&file).unwrap();
    assert_eq!(resumed.digest().unwrap(), t.digest().unwrap());
    // A failed write leaves the existing target unchanged. Here it fails because the target is a folder,
    // which a file cannot replace.
    let taken = folder.file("taken.safetensors");
    std::fs::create_dir(&taken).unwrap();
    assert!(matches!(t.save(&taken), Err(Error::Io { .. })));
    assert!(taken.is_dir());
}

#[test]
fn files_of_other_programs_are_errors() {
    let folder = Folder::new("foreign");
    let mut t = trainer(Sgd::new(0.1).into(), continuing());
    assert!(matches!(t.load(folder.file("missing")), Err(Error::Io { .. })));
    assert!(t.load(&folder.0).unwrap_err().to_string().contains("regular file"));
    let file = folder.file("foreign.safetensors");
    let view = |dtype, bytes| safetensors::tensor::TensorView::new(dtype, vec![4], bytes).unwrap();
    let floats =
        safetensors::serialize([("fc.bias", view(safetensors::Dtype::F32, &[0; 16]))], None).unwrap();
    std::fs::write(&file, floats).unwrap();
    assert!(checkpoint_error(t.load(&file)).contains("load_weights"));
    let halves = safetensors::serialize([("fc.bias", view(safetensors::Dtype::F16, &[0; 8]))], None).unwrap();
    std::fs::write(&file, halves).unwrap();
    let error = checkpoint_error(t.load_weights(&file, "fc.bias"));
    assert!(error.contains("\"fc.bias\": expected f32 [4], got F16 [4]"), "{error}");
    assert!(checkpoint_error(t.save_with_notes(&file, &[("a", "two\nlines".into())])).contains("one line"));
}

#[test]
fn load_weights_by_glob_keeps_frozen_elements_state_and_step() {
    let folder = Folder::new("weights");
    let (file, source) = saved_trainer(&folder);
    let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), TrainerOptions::batch(ROWS).seed(8));
    let mask = Mask::from_frozen((0..90).map(|i| i % 4 == 0));
    t.set_and_freeze("conv.kernel", &[f32::from_bits(0x8000_0000); 90], &mask).unwrap();
    train(&mut t, 2);
    let before = snapshot(&t);
    assert_eq!(t.load_weights(&file, "conv.*").unwrap(), 2);
    let (after, saved) = (snapshot(&t), snapshot(&source));
    for i in 0..90 {
        let from = if mask.is_frozen(i) { &before } else { &saved };
        assert_eq!(after.0[0][0][i], from.0[0][0][i], "element {i}");
    }
    assert!(
        after.0[1][0] == saved.0[1][0] && after.0[2] == before.0[2],
        "only parameters that match the glob are loaded"
    );
    assert!(after.0[0][1] == before.0[0][1] && t.steps() == 2, "state and step are kept");
    assert_eq!(t.verify_frozen().unwrap().changed(), 0);

    assert!(matches!(t.load_weights(&file, "pool*"), Err(Error::UnknownParameter { .. })));
    let mut foreign = Checkpoint::default();
    foreign.push("conv.kernel".into(), Tensor::f32_bits(vec![90], vec![0; 90]));
    foreign.push("conv.bias".into(), Tensor::f32_bits(vec![5], vec![1; 5]));
    foreign.write(&file).unwrap();
    assert!(
        checkpoint_error(t.load_weights(&file, "*"))
            .contains("\"conv.kernel\": expected f32 [3, 3, 2, 5], got f32 [90]")
    );
    assert!(checkpoint_error(t.load_weights(&file, "*.bias")).contains("\"fc.bias\""));
    assert!(snapshot(&t) == after, "a failed load changes nothing");
    assert_eq!(t.load_weights(&file, "conv.bias").unwrap(), 1);
    assert_eq!(t.store().read_weights(ParameterId::of(1)).unwrap(), [1; 5]);
}

/// After a non-finite loss, the advice is to lower the rate; `load` restores the old one.
#[test]
fn load_keeping_rates_accepts_another_schedule_and_weight_decay() {
    let folder = Folder::new("rates");
    let file = folder.file("c.safetensors");
    let make = |rate: f64, decay: f64| {
        let optimizer = Optimizer::from(AdamW::new(rate).weight_decay(decay));
        trainer(optimizer.schedule(LrSchedule::cosine(if decay > 0.1 { 50 } else { 60 })), continuing())
    };
    let mut saved = make(0.01, 0.2);
    train(&mut saved, 3);
    saved.save(&file).unwrap();
    let mut other = make(0.002, 0.0);
    let before = snapshot(&other);
    let why = checkpoint_error(other.load(&file));
    for part in ["weight-decay=0.2", "load_keeping_rates", "--override"] {
        assert!(why.contains(part), "{why}");
    }
    assert!(snapshot(&other) == before && other.steps() == 0);
    other.load_keeping_rates(&file).unwrap();
    assert!(snapshot(&other) == snapshot(&saved) && other.steps() == 3);
    assert_eq!(other.optimizer().learning_rate(), 0.002);
    // A file of another rule is refused.
    let mut adam = trainer(Adam::new(0.002).into(), continuing());
    let why = checkpoint_error(adam.load_keeping_rates(&file));
    assert!(why.contains("decoupled") && !why.contains("load_keeping_rates"), "{why}");
}
