//! Element by element, sums over rows, pooling.

use super::{KINDS, chain, single, with};
use crate::conformance::case::{Case, DataKind, Fill, Operand, Wire};
use crate::error::Result;
use crate::graph::{Op, Pool2d};
use crate::shape::{Padding, Window};

pub(super) fn cases() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for kind in KINDS {
        elementwise(kind, &mut all);
        biases(kind, &mut all);
        pools(kind, &mut all)?;
    }
    averages(&mut all)?;
    specials(&mut all)?;
    Ok(all)
}

/// Batch and extents, by how the last four elements end.
const SHAPES: [(usize, &[usize]); 8] =
    [(1, &[1]), (3, &[1]), (5, &[1]), (4, &[4]), (3, &[5]), (7, &[3, 3, 3]), (2, &[2049]), (3, &[11, 5, 4])];

fn elementwise(kind: DataKind, all: &mut Vec<Case>) {
    for (batch, extents) in SHAPES {
        let operand = || Operand::batched(extents, Fill::Data);
        all.push(single(format!("relu {batch} of {extents:?}"), Op::Relu, batch, vec![operand()], kind));
        let pair = vec![operand(), operand()];
        all.push(single(format!("add {batch} of {extents:?}"), Op::Add, batch, pair.clone(), kind));
        all.push(single(format!("mul {batch} of {extents:?}"), Op::Mul, batch, pair.clone(), kind));
        all.push(single(format!("relu_grad {batch} of {extents:?}"), Op::ReluGrad, batch, pair, kind));
        // Of integers by what is exact in f32.
        let factors = if kind == DataKind::Integers { [-0.5, 3.0] } else { [0.1, -1.7] };
        for factor in factors {
            let name = format!("scale by {factor} {batch} of {extents:?}");
            all.push(single(name, Op::Scale(factor), batch, vec![operand()], kind));
        }
        all.push(single(
            format!("mean_grad {batch} of {extents:?}"),
            Op::MeanGrad,
            batch,
            vec![operand()],
            kind,
        ));
    }
    let alone = vec![Operand::fixed(&[3, 7], Fill::Data)];
    all.push(single("relu without a batch".into(), Op::Relu, 1, alone, kind));
    let alone = vec![Operand::fixed(&[3, 7], Fill::Data)];
    all.push(single("mean_grad without a batch".into(), Op::MeanGrad, 1, alone, kind));
    // A reshape is the same memory under another name: alone, and between operations.
    let images = || vec![Operand::batched(&[2, 3, 5], Fill::Data)];
    all.push(single("reshape".into(), Op::Reshape(vec![4, 30]), 4, images(), kind));
    let nodes = vec![
        (Op::Relu, vec![Wire::Operand(0)]),
        (Op::Reshape(vec![4, 6, 5]), vec![Wire::Result(0, 0)]),
        (Op::Relu, vec![Wire::Result(1, 0)]),
    ];
    let case = chain("relu, reshape, relu".into(), 4, images(), nodes, kind);
    all.push(with(&case, "all kept", |ops| ops.keep_all = true));
    all.push(case);
}

fn biases(kind: DataKind, all: &mut Vec<Case>) {
    for (batch, extents) in SHAPES {
        let channels = extents[extents.len() - 1];
        let operands = vec![Operand::batched(extents, Fill::Data), Operand::fixed(&[channels], Fill::Data)];
        all.push(single(format!("bias_add {batch} of {extents:?}"), Op::BiasAdd, batch, operands, kind));
    }
    // One slice of rows, two, some with a rest, and the most.
    let sums: [(usize, &[usize]); 9] = [
        (5, &[3]),
        (1, &[1]),
        (130, &[9]),
        (7, &[10, 13, 5]),
        (3, &[1, 1, 70]),
        (9, &[50, 50, 2]),
        (191, &[1]),
        (3, &[4]),
        (11, &[7, 5, 8]),
    ];
    for (batch, extents) in sums {
        let dy = vec![Operand::batched(extents, Fill::Data)];
        all.push(single(format!("bias_grad {batch} of {extents:?}"), Op::BiasGrad, batch, dy, kind));
    }
    let alone = vec![Operand::fixed(&[100, 2, 6], Fill::Data)];
    all.push(single("bias_grad without a batch".into(), Op::BiasGrad, 1, alone, kind));
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

fn geometries() -> Result<Vec<(&'static str, usize, Pool2d)>> {
    use Padding::{Same, Valid};
    let beyond = Padding::Explicit { top: 3, bottom: 0, left: 2, right: 4 };
    Ok(vec![
        ("2x2", 2, pool([7, 9, 3], [2, 2], [2, 2], [1, 1], Valid)?),
        ("2x2 by fours", 3, pool([8, 8, 4], [2, 2], [2, 2], [1, 1], Same)?),
        ("overlapping", 2, pool([9, 7, 3], [3, 3], [2, 2], [1, 1], Same)?),
        ("overlapping at stride 1", 3, pool([5, 6, 2], [3, 2], [1, 1], [1, 1], Same)?),
        ("stride larger than the window", 2, pool([9, 9, 1], [2, 1], [3, 4], [1, 1], Valid)?),
        ("dilation", 2, pool([9, 8, 5], [2, 3], [2, 1], [3, 2], Valid)?),
        ("windows in the padding alone", 2, pool([4, 3, 2], [2, 2], [1, 2], [1, 1], beyond)?),
        ("window larger than the input", 4, pool([2, 3, 3], [5, 4], [1, 1], [1, 1], Same)?),
        ("1x1 map", 3, pool([1, 1, 6], [2, 2], [2, 2], [1, 1], Same)?),
    ])
}

fn output(p: &Pool2d) -> [usize; 3] {
    [p.window.output[0], p.window.output[1], p.channels]
}

fn input(p: &Pool2d) -> [usize; 3] {
    [p.window.input[0], p.window.input[1], p.channels]
}

/// Means of integers need not be integers, so reals alone.
fn averages(all: &mut Vec<Case>) -> Result<()> {
    for (name, batch, p) in geometries()? {
        let x = vec![Operand::batched(&input(&p), Fill::Data)];
        let dy = vec![Operand::batched(&output(&p), Fill::Data)];
        let kind = DataKind::Reals;
        all.push(single(format!("avg_pool2d {name}"), Op::AvgPool2d(p), batch, x, kind));
        all.push(single(format!("avg_pool2d_grad {name}"), Op::AvgPool2dGrad(p), batch, dy, kind));
    }
    Ok(())
}

fn pools(kind: DataKind, all: &mut Vec<Case>) -> Result<()> {
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
        // That of the ReLU before it rides along, unless what it reads can be read by others, too.
        let relu = with(&case, "of relu", |ops| {
            ops.nodes.insert(0, (Op::Relu, vec![Wire::Operand(0)]));
            ops.nodes[1].1 = vec![Wire::Result(0, 0)];
            ops.nodes[2].1 = vec![Wire::Result(1, 1), Wire::Operand(1)];
            ops.nodes.push((Op::ReluGrad, vec![Wire::Result(0, 0), Wire::Result(2, 0)]));
        });
        all.push(with(&relu, "all kept", |ops| ops.keep_all = true));
        all.extend([case, relu]);
    }
    Ok(())
}

/// NaN and infinities where they are part of the definition, and a grid that is folded.
fn specials(all: &mut Vec<Case>) -> Result<()> {
    let kind = DataKind::Integers;
    let x = || vec![Operand::batched(&[9, 8, 3], Fill::Specials)];
    all.push(single("relu of NaN and infinities".into(), Op::Relu, 2, x(), kind));
    let p = pool([9, 8, 3], [3, 2], [2, 2], [1, 1], Padding::Same)?;
    all.push(single("max_pool2d of NaN and infinities".into(), Op::MaxPool2d(p), 2, x(), kind));
    let gradient = vec![Operand::batched(&[9, 8, 3], Fill::Ties), x().swap_remove(0)];
    all.push(single("relu_grad of NaN and infinities".into(), Op::ReluGrad, 2, gradient, kind));
    let large = pool([700_000, 1, 3], [1, 1], [1, 1], [1, 1], Padding::Valid)?;
    let x = vec![Operand::batched(&[700_000, 1, 3], Fill::Data)];
    all.push(single("max_pool2d folded grid".into(), Op::MaxPool2d(large), 1, x, kind));
    Ok(())
}
