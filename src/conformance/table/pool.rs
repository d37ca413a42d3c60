//! Max-pooling, average pooling, resampling and global average pooling.

use super::build::{KINDS, chain, limited, single, with};
use crate::conformance::case::{Case, DataKind, Fill, Operand, Wire};
use crate::error::Result;
use crate::graph::{Op, Pool2d, Resample2d, Resampling, ResamplingRule};
use crate::shape::{Padding, Window};

pub(super) fn cases() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for kind in KINDS {
        all.extend(max_pools(kind)?);
        all.extend(global_pools(kind));
    }
    all.extend(average_pools()?);
    all.extend(resamplings());
    all.extend(long_sums()?);
    let kind = DataKind::Integers;
    let p = pool([9, 8, 3], [3, 2], [2, 2], [1, 1], Padding::Same)?;
    let x = vec![Operand::batched(&[9, 8, 3], Fill::Specials)];
    all.push(single("max_pool2d of NaN and infinities".into(), Op::MaxPool2d(p), 2, x, kind));
    // A case with more workgroups than one axis of the dispatch grid allows, so that the grid is folded.
    let large = pool([700_000, 1, 3], [1, 1], [1, 1], [1, 1], Padding::Valid)?;
    let x = vec![Operand::batched(&[700_000, 1, 3], Fill::Data)];
    all.push(single("max_pool2d folded grid".into(), Op::MaxPool2d(large), 1, x, kind));
    Ok(all)
}

fn pool(
    input: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
) -> Result<Pool2d> {
    let window = Window { kernel, stride, dilation, padding };
    Ok(Pool2d { window: window.on([input[0], input[1]], "max_pool2d")?, channels: input[2] })
}

/// The geometries of the pooling cases, each with its name and its batch size.
fn geometries() -> Result<Vec<(&'static str, usize, Pool2d)>> {
    use Padding::{Same, Valid};
    let beyond = Padding::Explicit { top: 3, bottom: 0, left: 2, right: 4 };
    Ok(vec![
        ("2x2", 2, pool([7, 9, 3], [2, 2], [2, 2], [1, 1], Valid)?),
        ("2x2 vec4", 3, pool([8, 8, 4], [2, 2], [2, 2], [1, 1], Same)?),
        ("overlapping", 2, pool([9, 7, 3], [3, 3], [2, 2], [1, 1], Same)?),
        ("overlapping at stride 1", 3, pool([5, 6, 2], [3, 2], [1, 1], [1, 1], Same)?),
        ("stride larger than the window", 2, pool([9, 9, 1], [2, 1], [3, 4], [1, 1], Valid)?),
        ("dilation", 2, pool([9, 8, 5], [2, 3], [2, 1], [3, 2], Valid)?),
        ("windows in the padding alone", 2, pool([4, 3, 2], [2, 2], [1, 2], [1, 1], beyond)?),
        ("window larger than the input", 4, pool([2, 3, 3], [5, 4], [1, 1], [1, 1], Same)?),
        ("1x1 map", 3, pool([1, 1, 6], [2, 2], [2, 2], [1, 1], Same)?),
    ])
}

fn input(p: &Pool2d) -> [usize; 3] {
    [p.window.input[0], p.window.input[1], p.channels]
}

fn output(p: &Pool2d) -> [usize; 3] {
    [p.window.output[0], p.window.output[1], p.channels]
}

/// Cases of max-pools and their gradients: alone, together, and between a ReLU and the gradient of that ReLU.
fn max_pools(kind: DataKind) -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for (name, batch, p) in geometries()? {
        for (data, fill) in [("", Fill::Data), (" with ties", Fill::Ties)] {
            let x = vec![Operand::batched(&input(&p), fill)];
            all.push(single(format!("max_pool2d {name}{data}"), Op::MaxPool2d(p), batch, x, kind));
        }
        let position = Operand::batched(&output(&p), Fill::Below(p.window.taps()));
        let dy = Operand::batched(&output(&p), Fill::Data);
        let operands = vec![position, dy.clone()];
        all.push(single(format!("max_pool2d_grad {name}"), Op::MaxPool2dGrad(p), batch, operands, kind));
        let nodes = vec![
            (Op::MaxPool2d(p), vec![Wire::Operand(0)]),
            (Op::MaxPool2dGrad(p), vec![Wire::Result(0, 1), Wire::Operand(1)]),
        ];
        let operands = vec![Operand::batched(&input(&p), Fill::Ties), dy];
        let case = chain(format!("max_pool2d and its gradient {name}"), batch, operands, nodes, kind);
        // The gradient of the ReLU is fused into the gradient of the pool, unless all results are outputs.
        let relu = with(&case, "of relu", |ops| {
            ops.nodes.insert(0, (Op::Relu, vec![Wire::Operand(0)]));
            ops.nodes[1].1 = vec![Wire::Result(0, 0)];
            ops.nodes[2].1 = vec![Wire::Result(1, 1), Wire::Operand(1)];
            ops.nodes.push((Op::ReluGrad, vec![Wire::Result(0, 0), Wire::Result(2, 0)]));
        });
        all.push(with(&relu, "all kept", |ops| ops.keep_all = true));
        all.extend([case, relu]);
    }
    Ok(all)
}

/// Cases of average pooling and its gradient, only on reals, because means of integers need not be exact.
fn average_pools() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for (name, batch, p) in geometries()? {
        let x = vec![Operand::batched(&input(&p), Fill::Data)];
        let dy = vec![Operand::batched(&output(&p), Fill::Data)];
        let kind = DataKind::Reals;
        all.push(single(format!("avg_pool2d {name}"), Op::AvgPool2d(p), batch, x, kind));
        all.push(single(format!("avg_pool2d_grad {name}"), Op::AvgPool2dGrad(p), batch, dy, kind));
    }
    Ok(all)
}

/// Cases of resamplings and their adjoints: every rule to more and to fewer pixels, with one channel and with four,
/// and rectangles that are divided. Products with halves and quarters of integers are exact.
fn resamplings() -> Vec<Case> {
    use ResamplingRule::{AdaptiveMean, Linear, LinearCorners, Nearest, WindowMean};
    let sizes = |input: [usize; 2], output: [usize; 2], rules: [ResamplingRule; 2]| {
        [0, 1].map(|i| Resampling { input: input[i], output: output[i], rule: rules[i] })
    };
    let window = |kernel: usize, stride: usize, pad_begin: usize, pad_end: usize| WindowMean {
        kernel,
        stride,
        pad_begin,
        pad_end,
    };
    let halves = sizes([3, 4], [6, 8], [Linear { step: 0.5 }; 2]);
    let pixels = sizes([5, 3], [10, 9], [Nearest { step: 0.5 }, Nearest { step: 1.0 / 3.0 }]);
    let fewer = sizes([7, 9], [3, 4], [Nearest { step: 7.0 / 3.0 }, Linear { step: 2.25 }]);
    let large = sizes([37, 29], [53, 61], [Linear { step: 37.0 / 53.0 }, LinearCorners]);
    let one = sizes([1, 4], [5, 1], [Linear { step: 0.2 }, LinearCorners]);
    let regions = sizes([7, 5], [3, 4], [AdaptiveMean; 2]);
    let counted = sizes([6, 5], [4, 5], [window(3, 2, 1, 1), window(3, 1, 1, 1)]);
    let beyond = sizes([3, 2], [4, 3], [window(2, 3, 5, 2), window(9, 1, 4, 4)]);
    let interleaved = |groups: usize| ResamplingRule::Interleave { groups };
    let shuffled = sizes([3, 12], [3, 12], [interleaved(1), interleaved(3)]);
    let across = sizes([6, 9], [6, 9], [interleaved(2), window(5, 1, 2, 2)]);
    let long = sizes([300, 258], [1, 2], [AdaptiveMean, window(300, 50, 100, 100)]);
    let mut all = Vec::new();
    for (name, batch, axes, channels, exact) in [
        ("bilinear 2x", 3, halves, 3, true),
        ("bilinear 2x vec4", 3, halves, 4, true),
        ("nearest 2x3", 2, pixels, 2, true),
        ("nearest 2x3 vec4", 5, pixels, 8, true),
        ("fewer pixels", 2, fewer, 3, false),
        ("37x29 to 53x61", 2, large, 1, false),
        ("37x29 to 53x61 vec4", 1, large, 4, false),
        ("one pixel", 3, one, 5, false),
        ("regions of unequal size", 3, regions, 3, false),
        ("regions of unequal size vec4", 2, regions, 4, false),
        ("counted padding", 2, counted, 3, false),
        ("windows in the padding alone", 3, beyond, 4, false),
        ("columns of 3 groups by turns", 2, shuffled, 1, true),
        ("rows of 2 groups by turns, windows of columns", 3, across, 4, false),
        ("long rows", 2, long, 3, false),
    ] {
        for adjoint in [false, true] {
            let resample = Resample2d { axes, channels, adjoint };
            let [h, w] = resample.from();
            for kind in KINDS {
                if kind == DataKind::Integers && !exact {
                    continue;
                }
                let op = Op::Resample2d(resample);
                let x = vec![Operand::batched(&[h, w, channels], Fill::Data)];
                let case = single(format!("{} {name}", op.name()), op, batch, x, kind);
                if h * w < 100 || name.starts_with("long") {
                    all.push(limited(&case, 5));
                }
                all.push(case);
            }
        }
    }
    all
}

/// The geometries of the windows that [`long_sums`] divides with a lower limit.
const DIVIDED: [&str; 3] = ["overlapping ", "2x2 vec4", "windows in the padding alone"];

/// Cases with more pixels or kernel positions than one invocation can loop over: real sizes, and the other
/// geometries with a lower limit.
fn long_sums() -> Result<Vec<Case>> {
    use Padding::{Same, Valid};
    let kind = DataKind::Reals;
    let mut all = Vec::new();
    for (batch, extents) in [(1, [255, 255, 3]), (2, [257, 259, 4])] {
        let x = vec![Operand::batched(&extents, Fill::Data)];
        let name = format!("global_avg_pool {batch} of {extents:?}");
        all.push(single(name, Op::GlobalAvgPool, batch, x, kind));
    }
    for channels in [1, 4] {
        let wide = pool([256, 258, channels], [256, 257], [1, 1], [1, 1], Valid)?;
        let one_row = pool([1, 70_003, channels], [1, 70_001], [1, 1], [1, 1], Valid)?;
        let beyond = pool([5, 4, channels], [260, 255], [1, 1], [1, 1], Same)?;
        let tile = pool([256, 514, channels], [256, 257], [256, 257], [1, 1], Valid)?;
        let square = pool([130, 131, channels], [128, 128], [1, 1], [1, 1], Valid)?;
        let case = |name: &str, op: Op, p: &Pool2d| {
            let gradient = matches!(op, Op::AvgPool2dGrad(_));
            let operand = Operand::batched(&if gradient { output(p) } else { input(p) }, Fill::Data);
            single(format!("{} {name}, {channels} channels", op.name()), op, 1, vec![operand], kind)
        };
        for (name, p) in [("256x257", wide), ("70,001 columns", one_row), ("larger than the input", beyond)] {
            all.push(case(name, Op::AvgPool2d(p), &p));
            all.push(case(name, Op::MaxPool2d(p), &p));
        }
        all.push(case("128x128", Op::MaxPool2d(square), &square));
        all.push(case("larger than the input", Op::AvgPool2dGrad(beyond), &beyond));
        for (name, p) in [("larger than the input", beyond), ("256x257 tiles", tile)] {
            let operands =
                vec![Operand::batched(&input(&p), Fill::Data), Operand::batched(&output(&p), Fill::Data)];
            let nodes = vec![
                (Op::MaxPool2d(p), vec![Wire::Operand(0)]),
                (Op::MaxPool2dGrad(p), vec![Wire::Result(0, 1), Wire::Operand(1)]),
            ];
            let name = format!("max_pool2d and its gradient {name}, {channels} channels");
            all.push(chain(name, 1, operands, nodes, kind));
        }
    }
    // Each part of a max-pool window has its own shader, so only few geometries are divided.
    let divided = |case: &&Case| DIVIDED.iter().any(|name| case.name.contains(name));
    let windows = [max_pools(DataKind::Integers)?, average_pools()?].concat();
    all.extend(windows.iter().filter(divided).map(|case| limited(case, 16)));
    Ok(all)
}

fn global_pools(kind: DataKind) -> Vec<Case> {
    let shapes: [(usize, [usize; 3]); 8] = [
        (1, [1, 1, 1]),
        (5, [1, 1, 17]),
        (3, [4, 2, 5]),
        (2, [8, 8, 64]),
        (4, [3, 5, 7]),
        (7, [1, 13, 3]),
        (1, [50, 37, 2]),
        (3, [7, 7, 132]),
    ];
    let mut all = Vec::new();
    for (batch, extents) in shapes {
        let [h, w, c] = extents;
        // The mean of integers is exact only if the number of pixels is a power of 2.
        if kind == DataKind::Integers && !(h * w).is_power_of_two() {
            continue;
        }
        let (x, dy) = (Operand::batched(&extents, Fill::Data), Operand::batched(&[c], Fill::Data));
        let name = |op: &str| format!("{op} {batch} of {extents:?}");
        all.push(single(name("global_avg_pool"), Op::GlobalAvgPool, batch, vec![x.clone()], kind));
        let grad = Op::GlobalAvgPoolGrad([h, w]);
        all.push(single(name("global_avg_pool_grad"), grad.clone(), batch, vec![dy], kind));
        if kind == DataKind::Integers {
            let nodes = vec![(Op::GlobalAvgPool, vec![Wire::Operand(0)]), (grad, vec![Wire::Result(0, 0)])];
            all.push(chain(name("global_avg_pool and its gradient"), batch, vec![x], nodes, kind));
        }
    }
    all
}
