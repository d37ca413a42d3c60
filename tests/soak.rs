//! Loops of random cases over everything that reads text, files or numbers from outside, and over training with
//! random masks. `FRAZIL_SOAK_SECONDS` runs each for longer.

use crate::support::device::gpu;
use crate::support::soak::{Case, damage, pick, size, soak};
use crate::support::training::{ROWS, check_frozen, optimizers, snapshot, train, trainer};
use flate2::{Compression, write::GzEncoder};
use frazil::checkpoint::Checkpoint;
use frazil::data::{cifar10, idx, synthetic};
use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::low_level::{CostModel, Plan, PlanOptions, Stream, UpdateRule};
use frazil::mask::{MaskSchedule, TensorView};
use frazil::model::ModelBuilder;
use frazil::{
    Adam, Batch, Dataset, Error, FreezeRule, Loss, LrSchedule, Mask, Model, Optimizer, Padding, ThawPolicy,
    Trainer, TrainerOptions,
};
use std::io::Write;
use std::path::PathBuf;

/// Temporary folder of one test, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("frazil-soak-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const TEXTS: [&str; 26] = [
    "all",
    "none",
    "random:0.5",
    "smallest:0.25:trainable",
    "largest:1",
    "smallest-global:0.5",
    "largest-global:0.1:trainable",
    "n-of-m:2:4",
    "filters:0.25:l1",
    "filters:at:0,3",
    "input-channels:0.5:random",
    "input-channels:at:1",
    "position:1,2",
    "block:0..1,1..3,0..2,0..4",
    "equal:-1.5e-3",
    "file:/nowhere/x:mask.*",
    "constant:fraction=0.5,begin=3,end=9,every=2",
    "polynomial:final=0.9,initial=0.1,power=3,end=400,every=50",
    "cosine:fraction=0.3,end=10",
    "constant",
    "step:every=30,factor=0.1",
    "cosine:total=2000,warm-up=100,floor=0.01",
    "one-cycle:total=500",
    "polynomial:total=100,power=0.9,floor=1e-3",
    "digits",
    "mobilenet-small",
];

const WORDS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "NaN",
    "inf",
    "1e308",
    "1e-400",
    "18446744073709551615",
    "18446744073709551616",
    "..",
    ":",
    ",",
    "=",
    "\u{1b}[2J",
    "ü",
    ":trainable",
];

/// A valid text, changed in up to three places.
fn text(random: &mut Stream) -> String {
    let mut text: Vec<char> = pick(random, &TEXTS).chars().collect();
    for _ in 0..random.below(4) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(4)).min(text.len());
        let word: Vec<char> = match random.below(3) {
            0 => Vec::new(),
            1 => pick(random, &WORDS).chars().collect(),
            _ => pick(random, &TEXTS).chars().take(1 + random.below(9)).collect(),
        };
        text.splice(at..end, word);
    }
    text.into_iter().collect()
}

#[test]
fn soak_texts() {
    soak("texts", 4, |random| {
        let text = text(random);
        let mut accepted = Model::named(&text).is_ok();
        if let Ok(rule) = text.parse::<FreezeRule>() {
            accepted = true;
            assert_eq!(rule.to_string().parse::<FreezeRule>().unwrap().to_string(), rule.to_string());
            let shapes: [&[usize]; 5] = [&[7], &[3, 4], &[2, 3, 2, 4], &[1, 1, 1, 1], &[0, 3]];
            for shape in shapes {
                let len: usize = shape.iter().product();
                let bits: Vec<u32> = (0..len).map(|_| random.bits()).collect();
                let frozen = Mask::from_frozen((0..len).map(|_| random.below(2) == 1));
                let view = TensorView { path: "conv.kernel", shape, bits: Some(&bits), frozen: &frozen };
                if let Ok(masks) = rule.resolve_all(&[view, view]) {
                    assert!(masks.len() == 2 && masks.iter().all(|mask| mask.len() == len), "{text}");
                }
            }
        }
        if let Ok(schedule) = text.parse::<MaskSchedule>() {
            accepted = true;
            assert_eq!(
                schedule.to_string().parse::<MaskSchedule>().unwrap().to_string(),
                schedule.to_string()
            );
            for step in [0, 1, 399, 1 << 40, u64::MAX].into_iter().chain((0..9).map(|_| random.bits().into()))
            {
                assert!(schedule.at(step).is_none_or(|f| (0.0..=1.0).contains(&f)), "{text} at {step}");
            }
        }
        if let Ok(schedule) = text.parse::<LrSchedule>() {
            accepted = true;
            assert_eq!(schedule.to_string().parse::<LrSchedule>().unwrap(), schedule);
            for step in
                [0, 1, 1999, 1 << 40, u64::MAX].into_iter().chain((0..9).map(|_| random.bits().into()))
            {
                let factor = schedule.factor(step);
                assert!(factor.is_nan() || factor >= 0.0, "{text} at {step}: {factor}");
            }
        }
        if accepted { Case::Accepted } else { Case::Refused }
    });
}

/// Damaged checkpoints: whatever is read is what was written, to the bit. A refused file changes nothing.
#[test]
fn soak_checkpoints() {
    let folder = Folder::new("checkpoints");
    let path = folder.0.join("c.safetensors");
    let make = || trainer(Adam::new(0.01).into(), TrainerOptions::batch(ROWS).seed(3));
    let mut t = make();
    t.freeze("conv.kernel", FreezeRule::random(0.5).seed(1)).unwrap();
    train(&mut t, 3);
    t.save(&path).unwrap();
    let (bytes, good) = (std::fs::read(&path).unwrap(), Checkpoint::read(&path).unwrap());
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut other = make();
    let (before, saved) = (snapshot(&other), snapshot(&t));
    soak("checkpoints", 6, |random| {
        // Half of the damage is in the header, which is a small part of the file.
        let mut damaged = bytes.clone();
        if random.below(2) == 0 {
            damaged.splice(..header, damage(random, &bytes[..header]));
        } else {
            damaged = damage(random, &bytes);
        }
        std::fs::write(&path, &damaged).unwrap();
        let read = Checkpoint::read(&path);
        if let Ok(read) = &read {
            assert!(read.is_own() && *read == good, "a damaged file is read as another one");
        }
        let rule = FreezeRule::from_file(&path, "mask.conv.kernel");
        assert_eq!(rule.resolve("conv.kernel", 90).is_ok(), read.is_ok());
        if random.below(8) == 0 {
            let loaded = other.load(&path);
            assert_eq!(loaded.is_ok(), read.is_ok(), "{loaded:?}");
            assert!(snapshot(&other) == if loaded.is_ok() { saved.clone() } else { before.clone() });
            if loaded.is_ok() {
                other = make();
            }
            assert_eq!(make().load_weights(&path, "*").is_ok(), read.is_ok());
        }
        // An undamaged file once in a while: otherwise nearly all cases would be refused.
        if random.below(16) == 0 {
            std::fs::write(&path, &bytes).unwrap();
            return Checkpoint::read(&path).map(|read| assert!(read == good)).into();
        }
        read.into()
    });
}

/// Damaged files of other programs have no checksum: what is accepted must be consistent.
#[test]
fn soak_foreign_files() {
    use safetensors::tensor::{Dtype, TensorView as View};
    let folder = Folder::new("foreign");
    let path = folder.0.join("f.safetensors");
    let (floats, flags) = ([0x3f; 4 * 90], [1; 90]);
    let views = [
        ("conv.kernel", View::new(Dtype::F32, vec![3, 3, 2, 5], &floats).unwrap()),
        ("m", View::new(Dtype::U8, vec![3, 3, 2, 5], &flags).unwrap()),
        ("half", View::new(Dtype::F16, vec![45], &flags).unwrap()),
        ("empty", View::new(Dtype::F32, vec![0, 3], &[]).unwrap()),
    ];
    let bytes = safetensors::serialize(views, None).unwrap();
    let mut t = trainer(Adam::new(0.01).into(), TrainerOptions::batch(ROWS).seed(3));
    soak("foreign files", 4, |random| {
        std::fs::write(&path, damage(random, &bytes)).unwrap();
        let read = Checkpoint::read(&path);
        if let Ok(read) = &read {
            for (_, tensor) in read.tensors() {
                assert_eq!(tensor.shape().iter().product::<usize>(), tensor.bits().len());
            }
            let _ = (read.frozen_digest(), read.training_digest(), read.parameters().len());
        }
        if let Ok(mask) = FreezeRule::from_file(&path, "m").resolve("conv.kernel", 90) {
            assert_eq!(mask.len(), 90);
        }
        if random.below(8) == 0 {
            let _ = t.load_weights(&path, "conv.kernel");
            assert!(t.load(&path).is_err());
        }
        read.into()
    });
}

#[test]
fn soak_data_files() {
    let folder = Folder::new("data");
    let file = |name: &str| folder.0.join(name);
    let idx_file = |extents: &[u32], values: &[u8]| {
        let head = [0, 0, 8, extents.len() as u8];
        [&head[..], &extents.iter().flat_map(|extent| extent.to_be_bytes()).collect::<Vec<_>>(), values]
            .concat()
    };
    let gz = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let pixels: Vec<u8> = (0..4 * 18).map(|i| i as u8 * 3).collect();
    let images = idx_file(&[4, 6, 3], &pixels);
    let colours = idx_file(&[4, 3, 2, 3], &pixels);
    let labels = idx_file(&[4], &[1, 0, 9, 4]);
    let record: Vec<u8> = std::iter::once(7).chain((0..3072).map(|i| i as u8)).collect();
    let check = |read: frazil::Result<(Dataset, Dataset)>| {
        if let Ok((train, test)) = &read {
            assert_eq!(train.example_shape(), test.example_shape());
            for data in [train, test] {
                let features = data.len() * data.example_shape().iter().product::<usize>();
                assert_eq!(data.features().len(), features);
                assert!(data.features().iter().all(|x| (0.0..=1.0).contains(x)));
                assert!(data.labels().iter().all(|&label| (label as usize) < data.classes()));
            }
        }
        Case::from(read)
    };
    soak("data files", 5, |random| {
        let names = ["train-images", "train-labels", "t10k-images", "t10k-labels"];
        if random.below(4) == 0 {
            for number in 1..=5 {
                std::fs::write(file(&format!("data_batch_{number}.bin")), &record).unwrap();
            }
            std::fs::write(file("test_batch.bin"), [&record[..], &record].concat()).unwrap();
            let (name, bytes) = (format!("data_batch_{}.bin", 1 + random.below(5)), damage(random, &record));
            std::fs::write(file(&name), bytes).unwrap();
            return check(cifar10(&folder.0));
        }
        let four = random.below(2) == 0;
        let damaged = random.below(names.len());
        let mut written = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            let (axes, content) = match (name.ends_with("labels"), four) {
                (true, _) => (1, &labels),
                (false, true) => (4, &colours),
                (false, false) => (3, &images),
            };
            let zipped = random.below(2) == 0;
            let mut bytes = if zipped { gz(content) } else { content.clone() };
            if number == damaged {
                // Damage of the content, or of the compressed stream.
                bytes = match random.below(2) {
                    0 if zipped => gz(&damage(random, content)),
                    _ => damage(random, &bytes),
                };
            }
            written.push(file(&format!("{name}-idx{axes}-ubyte{}", if zipped { ".gz" } else { "" })));
            std::fs::write(written.last().unwrap(), bytes).unwrap();
        }
        let result = check(idx(&folder.0));
        written.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        result
    });
}

/// Appends up to `layers` random layers, with sizes from `size`.
fn layers(
    random: &mut Stream,
    mut builder: ModelBuilder,
    layers: usize,
    size: fn(&mut Stream) -> usize,
) -> ModelBuilder {
    for number in 0..layers {
        let [a, b, c, d, e] = std::array::from_fn(|_| size(random));
        let padding = match random.below(4) {
            0 => Padding::Valid,
            1 => Padding::Explicit { top: a - a.min(1), bottom: b, left: c, right: d - d.min(1) },
            _ => Padding::Same,
        };
        let stride = if random.below(3) == 0 { [c, d] } else { [1, 1] };
        let dilation = if random.below(4) == 0 { [d, c] } else { [1, 1] };
        let groups = if random.below(4) == 0 { e } else { 1 };
        let bias = random.below(2) == 0;
        let name = format!("l{number}");
        builder = match random.below(13) {
            0..4 => builder.conv2d(&name, e, [a.min(5), b.min(5)], |l| {
                l.padding(padding).stride(stride).dilation(dilation).groups(groups).bias(bias)
            }),
            4 => builder.conv2d(&name, e, [a, b], |l| l.padding(padding).groups(groups)),
            5 => builder.max_pool2d_with([a, b], |l| l.padding(padding).stride(stride).dilation(dilation)),
            6 => builder.avg_pool2d_with([a, b], |l| l.padding(padding).stride(stride)),
            7 => builder.batch_norm(&name),
            8 => builder.leaky_relu(0.1),
            9 => builder.gelu(),
            10 => builder.dropout(f64::from(random.unit())),
            11 => {
                let main = |inner: ModelBuilder| inner.conv2d("c", e, [3, 3], |l| l.padding(Padding::Same));
                builder.residual(&name, main, |inner| inner)
            }
            _ => builder.relu(),
        };
    }
    builder
}

/// Models with extreme sizes, compiled for adapters with extreme limits, without a device.
#[test]
fn soak_models() {
    soak("models", 8, |random| {
        let input: Vec<usize> =
            (0..if random.below(8) == 0 { random.below(6) } else { 3 }).map(|_| size(random)).collect();
        let count = random.below(6);
        let mut builder = layers(random, Model::input(input), count, size);
        if random.below(4) == 0 {
            builder = builder.global_avg_pool();
        } else {
            builder = builder.flatten();
        }
        let Ok(model) = builder.dense("fc", size(random)).build() else { return Case::Refused };
        let mut report = AdapterReport::new(
            "none",
            Backend::Vulkan,
            *pick(random, &[DeviceKind::Cpu, DeviceKind::Discrete]),
        );
        if random.below(2) == 0 {
            (report.max_buffer, report.max_binding) = (size(random) as u64, size(random) as u64);
            (report.max_invocations, report.max_workgroup_memory) = (random.bits(), random.bits());
            report.subgroup = Some([*pick(random, &[0, 4, 8, 32, 128, u32::MAX]); 2]);
            report.cooperative_matrix = Some(*pick(random, &[0, 8, 16, u32::MAX]));
        } else {
            (report.max_buffer, report.max_binding) = (u64::MAX, u64::MAX);
        }
        let mut cost = CostModel::SOFTWARE;
        if random.below(8) == 0 {
            cost.tile = Some([size(random), size(random)]);
            (cost.gathered, cost.dispatches) = (size(random), size(random));
        }
        let options = PlanOptions::default()
            .cost_model(cost)
            .workspace_bytes(size(random) as u64)
            .flops_per_submission(size(random) as u64);
        let rule = UpdateRule::Adagrad { epsilon: 1e-8, weight_decay: 0.0 };
        let graph = match model.training_graph(size(random), Loss::SoftmaxCrossEntropy, rule) {
            Ok(graph) => graph.graph,
            Err(_) => return Case::Refused,
        };
        let estimate = Plan::estimate(&graph, &report, &options);
        if let Ok(report) = &estimate {
            let _ = (report.bytes(), report.flops(), report.to_string().len());
        }
        estimate.into()
    });
}

/// A batch of the model's shape; now and then with a NaN, an infinity or a large number.
fn batch(random: &mut Stream, data: &Dataset) -> Batch {
    let mut batch = data.batches(4, random.bits().into()).unwrap().next().unwrap();
    if random.below(6) == 0 {
        let at = random.below(batch.features.len());
        batch.features[at] = *pick(random, &[f32::NAN, f32::INFINITY, 1e30, -0.0]);
    }
    batch
}

/// Changes what is frozen, by a random call; refused calls change nothing.
fn change_masks(random: &mut Stream, t: &mut Trainer) -> frazil::Result<()> {
    let paths: Vec<_> = t.model().parameters().iter().map(|p| p.path.clone()).collect();
    let path = pick(random, &paths).clone();
    let glob = if random.below(2) == 0 { path.clone() } else { "*".to_owned() };
    let len = t.mask(&path)?.len();
    let half = Mask::from_frozen((0..len).map(|_| random.below(2) == 0));
    let fraction = f64::from(random.unit());
    match random.below(9) {
        0 => t.freeze(&glob, FreezeRule::random(fraction).seed(random.bits().into())).map(drop),
        1 => t.freeze(&glob, FreezeRule::largest(fraction).among_trainable()).map(drop),
        2 => t.prune(&glob, FreezeRule::smallest(fraction)).map(drop),
        3 => t.thaw(&glob, FreezeRule::random(fraction), ThawPolicy::KeepState).map(drop),
        4 => t.thaw(&glob, FreezeRule::all(), ThawPolicy::ZeroState).map(drop),
        5 => t.replace_mask(&path, half, ThawPolicy::KeepState),
        6 => {
            let values: Vec<f32> = (0..len).map(|_| f32::from_bits(random.bits())).collect();
            t.set_and_freeze(&path, &values, &half)
        }
        7 => t.freeze(&glob, FreezeRule::all()).map(drop),
        _ => t.freeze("no such parameter", FreezeRule::all()).map(drop),
    }
}

fn small(random: &mut Stream) -> usize {
    1 + random.below(4)
}

/// Random models trained with random optimizers and masks: no frozen bit changes, and a run that is saved and
/// resumed in another trainer ends with the same bits.
#[test]
fn soak_training() {
    let folder = Folder::new("training");
    let path = folder.0.join("c.safetensors");
    let all = optimizers();
    let (mut steps, mut frozen) = (0u64, 0u64);
    soak("training", 20, |random| {
        let input = [1 + random.below(6), 1 + random.below(6), small(random)];
        let count = random.below(4);
        let builder = layers(random, Model::input(input), count, small).flatten();
        let Ok(model) = builder.dense("fc", 3).build() else { return Case::Refused };
        let (_, optimizer) = pick(random, &all).clone();
        // Factors of `*.bias` need such a parameter.
        let optimizer: Optimizer = optimizer;
        let options = TrainerOptions::batch(4).seed(random.bits().into());
        let make = || {
            Trainer::new(gpu(), model.clone(), Loss::SoftmaxCrossEntropy, optimizer.clone(), options.clone())
        };
        let Ok(mut t) = make() else { return Case::Refused };
        let data = synthetic("random", input, 3, 12, random.bits().into()).unwrap();
        // A variance of 1e30 squared overflows although the loss is finite.
        let ends =
            |error: &Error| matches!(error, Error::NonFiniteLoss { .. } | Error::NonFiniteUpdate { .. });
        for _ in 0..3 {
            let before = snapshot(&t);
            if change_masks(random, &mut t).is_err() {
                assert!(snapshot(&t) == before, "a refused change of masks changed weights");
            }
            let before = snapshot(&t);
            for _ in 0..1 + random.below(3) {
                match t.step(&batch(random, &data)) {
                    Ok(()) => steps += 1,
                    Err(error) => assert!(ends(&error), "{error}"),
                }
            }
            check_frozen(&t, &before, &snapshot(&t)).unwrap();
            assert_eq!(t.verify_frozen().unwrap().changed(), 0);
            frozen += t.frozen_count() as u64;
        }
        t.forget_non_finite().unwrap();
        t.save(&path).unwrap();
        let mut resumed = make().unwrap();
        resumed.load(&path).unwrap();
        for _ in 0..2 {
            let batch = batch(random, &data);
            let both = [&mut t, &mut resumed].map(|t| t.step_loss(&batch).map(f32::to_bits).ok());
            assert_eq!(both[0], both[1]);
            [&mut t, &mut resumed].into_iter().for_each(|t| t.forget_non_finite().unwrap());
        }
        assert!(snapshot(&t) == snapshot(&resumed) && t.steps() == resumed.steps(), "resumed differs");
        assert_eq!(resumed.verify_frozen().unwrap().changed(), 0);
        Case::Accepted
    });
    crate::support::say(&format!("soak training: {steps} steps, {frozen} comparisons of frozen elements"));
}
