//! Cases with random shapes, and convolutions of known networks.

use super::build::{KINDS, chain, single};
use crate::compiler::Winograd;
use crate::conformance::case::{Case, DataKind, Fill, Operand, Wire};
use crate::error::Result;
use crate::graph::{Activation, Conv2d, Op, Pool2d};
use crate::rng::{Purpose, Stream};
use crate::shape::{Padding, Window};

/// Draws `count` cases: half of them convolutions and their gradients, the others matrix multiplications, pooling,
/// elementwise operations and sums of rows. The names contain the seed, so that each seed has other data, too.
///
/// # Errors
/// Those of window geometries; none occurs, because each one has an output.
pub fn random_cases(seed: u64, count: usize) -> Result<Vec<Case>> {
    let mut stream = Stream::new(seed, Purpose::Data, 0);
    let case = |number| Ok(direct(draw(&mut stream, &format!("random {seed}/{number}"))?));
    (0..count).map(case).collect()
}

/// The case without Winograd's transforms, which round on integers, too; the op table has them.
fn direct(case: Case) -> Case {
    case.with_ops(|ops| ops.winograd = Winograd::Never)
}

/// A number of channels or of columns: often a multiple of 4, often near a tile size.
fn channels(stream: &mut Stream) -> usize {
    match stream.below(4) {
        0 => 1 + stream.below(7),
        1 => 4 * (1 + stream.below(12)),
        2 => [16, 32, 64, 128][stream.below(4)] - 1 + stream.below(3),
        _ => 1 + stream.below(70),
    }
}

fn draw(stream: &mut Stream, name: &str) -> Result<Case> {
    let kind = KINDS[stream.below(2)];
    match stream.below(8) {
        0..=3 => convolution(stream, name, kind),
        4 => Ok(matmul(stream, name, kind)),
        5 => pool(stream, name),
        6 => Ok(elementwise(stream, name, kind)),
        _ => {
            let (batch, rows, c) = (1 + stream.below(9), 1 + stream.below(300), channels(stream));
            let operands = vec![Operand::batched(&[rows, c], Fill::Data)];
            let name = format!("{name}: bias_grad {batch} of {rows}x{c}");
            Ok(single(name, Op::BiasGrad, batch, operands, kind))
        }
    }
}

/// A convolution, one of its gradients, or a convolution with bias and ReLU.
fn convolution(stream: &mut Stream, name: &str, kind: DataKind) -> Result<Case> {
    let kernel = [1 + stream.below(5), 1 + stream.below(5)];
    let window = Window {
        padding: if stream.below(3) == 0 { Padding::Valid } else { Padding::Same },
        stride: [1 + stream.below(3), 1 + stream.below(3)],
        dilation: if stream.below(4) == 0 { [1 + stream.below(3), 1 + stream.below(3)] } else { [1, 1] },
        ..Window::new(kernel)
    };
    // Large enough for one output without padding.
    let side =
        |stream: &mut Stream, axis: usize| (kernel[axis] - 1) * window.dilation[axis] + 1 + stream.below(20);
    let [height, width] = [side(stream, 0), side(stream, 1)];
    let groups = [1, 1, 1, 2, 3][stream.below(5)];
    let [c_in, c_out] = [channels(stream), channels(stream)].map(|c| c.div_ceil(groups) * groups);
    let depthwise = groups > 1 && stream.below(2) == 0;
    let (groups, c_out) = if depthwise { (c_in, c_in) } else { (groups, c_out) };
    let conv = Conv2d::new([height, width, c_in], c_out, window, groups, name)?;
    let batch = 1 + stream.below(4);
    let what = format!(
        "{name}: {height}x{width}x{c_in} to {c_out} by {}x{}, stride {}x{}, dilation {}x{}, {groups} groups",
        kernel[0], kernel[1], window.stride[0], window.stride[1], window.dilation[0], window.dilation[1]
    );
    Ok(passes(&what, conv, batch, kind).swap_remove(stream.below(4)))
}

/// The forward pass, the input gradient, the weight gradient, and the forward pass with bias and ReLU.
fn passes(name: &str, c: Conv2d, batch: usize, kind: DataKind) -> Vec<Case> {
    let w = &c.window;
    let x = Operand::batched(&[w.input[0], w.input[1], c.c_in], Fill::Data);
    let dy = Operand::batched(&[w.output[0], w.output[1], c.c_out], Fill::Data);
    let kernel = Operand::fixed(&c.kernel_shape(), Fill::Data);
    let bias = Operand::fixed(&[c.c_out], Fill::Data);
    let named = |op: &Op| format!("{name}, {}", op.name());
    let one = |op: Op, operands: Vec<Operand>| single(named(&op), op, batch, operands, kind);
    let nodes = vec![
        (Op::Conv2d(c), vec![Wire::Operand(0), Wire::Operand(1)]),
        (Op::BiasAdd, vec![Wire::Result(0, 0), Wire::Operand(2)]),
        (Op::Relu, vec![Wire::Result(1, 0)]),
    ];
    let fused = format!("{name}, conv2d, bias, relu");
    vec![
        one(Op::Conv2d(c), vec![x.clone(), kernel.clone()]),
        one(Op::Conv2dGradInput(c), vec![dy.clone(), kernel.clone()]),
        one(Op::Conv2dGradKernel(c), vec![x.clone(), dy]),
        chain(fused, batch, vec![x, kernel, bias], nodes, kind),
    ]
}

fn matmul(stream: &mut Stream, name: &str, kind: DataKind) -> Case {
    let [m, k, n] = [1 + stream.below(150), 1 + stream.below(400), channels(stream)];
    let [transpose_a, transpose_b] = [stream.below(2) == 1, stream.below(2) == 1];
    let stored = |[rows, columns]: [usize; 2], transposed: bool| {
        Operand::fixed(&if transposed { [columns, rows] } else { [rows, columns] }, Fill::Data)
    };
    let operands = vec![stored([m, k], transpose_a), stored([k, n], transpose_b)];
    let marks = [transpose_a, transpose_b].map(|transposed| if transposed { "^T" } else { "" });
    let name = format!("{name}: matmul {m}x{k}{} {k}x{n}{}", marks[0], marks[1]);
    single(name, Op::MatMul { transpose_a, transpose_b }, 1, operands, kind)
}

/// Average pooling: the maxima of random windows may be equal, and rounding would decide which one is the first.
fn pool(stream: &mut Stream, name: &str) -> Result<Case> {
    let kernel = [1 + stream.below(4), 1 + stream.below(4)];
    let [height, width] = [kernel[0] + stream.below(18), kernel[1] + stream.below(18)];
    let (channels, batch) = (channels(stream), 1 + stream.below(4));
    let stride = [1 + stream.below(3), 1 + stream.below(3)];
    let window = Window { stride, ..Window::new(kernel) }.on([height, width], name)?;
    let pool = Pool2d { window, channels };
    let gradient = stream.below(2) == 1;
    let (extents, op) = if gradient {
        ([window.output[0], window.output[1], channels], Op::AvgPool2dGrad(pool))
    } else {
        ([height, width, channels], Op::AvgPool2d(pool))
    };
    let name = format!(
        "{name}: {} {height}x{width}x{channels} by {}x{}, stride {}x{}",
        op.name(),
        kernel[0],
        kernel[1],
        stride[0],
        stride[1]
    );
    // Quotients round, whatever the operands are.
    Ok(single(name, op, batch, vec![Operand::batched(&extents, Fill::Data)], DataKind::Reals))
}

fn elementwise(stream: &mut Stream, name: &str, kind: DataKind) -> Case {
    let (batch, extents) = (1 + stream.below(9), [1 + stream.below(40), 1 + stream.below(40)]);
    let operand = || Operand::batched(&extents, Fill::Data);
    let (op, operands, kind) = match stream.below(5) {
        0 => (Op::Relu, vec![operand()], kind),
        1 => (Op::Add, vec![operand(), operand()], kind),
        2 => (Op::Mul, vec![operand(), operand()], kind),
        3 => (Op::ReluGrad, vec![operand(), operand()], kind),
        // Its results round, whatever the operands are.
        _ => (Op::Activation(Activation::Silu), vec![operand()], DataKind::Reals),
    };
    let name = format!("{name}: {} {batch} of {extents:?}", op.name());
    single(name, op, batch, operands, kind)
}

/// Convolutions of networks: name, height and width of the input, input and output channels, kernel, stride, groups.
/// Maps larger than 28x28 are cut to 28x28, at which the kernels are the same and the reference takes a quarter of a
/// second or less.
const NETWORKS: [(&str, usize, usize, usize, usize, usize, usize); 22] = [
    ("resnet stem", 28, 3, 64, 7, 2, 1),
    ("resnet 1x1 reduce", 28, 256, 64, 1, 1, 1),
    ("resnet 3x3 of 64", 14, 64, 64, 3, 1, 1),
    ("resnet 3x3 of 128, stride 2", 14, 128, 128, 3, 2, 1),
    ("resnet 1x1 expand", 14, 64, 256, 1, 1, 1),
    ("resnet shortcut, stride 2", 14, 256, 512, 1, 2, 1),
    ("resnet 3x3 of 256", 7, 256, 256, 3, 1, 1),
    ("resnet 1x1 of 512 to 2048", 4, 512, 2048, 1, 1, 1),
    ("vgg first", 28, 3, 64, 3, 1, 1),
    ("vgg 128 to 256", 7, 128, 256, 3, 1, 1),
    ("vgg last", 4, 512, 512, 3, 1, 1),
    ("mobilenet stem", 28, 3, 32, 3, 2, 1),
    ("mobilenet depthwise 144, stride 2", 28, 144, 144, 3, 2, 144),
    ("mobilenet expand 24 to 144", 28, 24, 144, 1, 1, 1),
    ("mobilenet project 576 to 160", 7, 576, 160, 1, 1, 1),
    ("efficientnet depthwise 5x5 of 240", 14, 240, 240, 5, 2, 240),
    ("efficientnet depthwise 5x5 of 1152", 7, 1152, 1152, 5, 1, 1152),
    ("efficientnet head", 7, 320, 1280, 1, 1, 1),
    ("alexnet first", 28, 3, 64, 11, 4, 1),
    ("resnext 32 groups", 14, 128, 128, 3, 1, 32),
    ("unet bottom", 6, 256, 128, 3, 1, 1),
    ("unet last", 28, 32, 2, 1, 1, 1),
];

/// The forward pass and both gradients of convolutions of known networks, on integers: all sums are exact, however long
/// they are.
///
/// # Errors
/// Those of window geometries; none occurs, because the table is fixed.
pub fn network_cases() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for (name, side, c_in, c_out, kernel, stride, groups) in NETWORKS {
        let window = Window { padding: Padding::Same, stride: [stride; 2], ..Window::new([kernel; 2]) };
        let conv = Conv2d::new([side, side, c_in], c_out, window, groups, name)?;
        all.extend(passes(name, conv, 2, DataKind::Integers).into_iter().map(direct));
    }
    Ok(all)
}
