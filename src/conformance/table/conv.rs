//! Convolutions: forward and both gradients over many geometries, fused chains, split batches, Winograd's
//! transforms, and weight gradients of partly frozen kernels.

use super::build::{KINDS, chain, limited, single, with};
use crate::compiler::{GradientStrategy, Winograd};
use crate::conformance::case::{Case, DataKind, Fill, Operand, Partial, Wire};
use crate::error::Result;
use crate::graph::{Conv2d, Op, Pool2d};
use crate::mask::Mask;
use crate::shape::{Padding, Window, WindowGeometry};

/// The geometry of a convolution and the batch of its case.
struct Geometry {
    name: &'static str,
    /// `[height, width, channels]`.
    input: [usize; 3],
    c_out: usize,
    window: Window,
    groups: usize,
    batch: usize,
}

/// A geometry with one group and a batch of 2.
fn geometry(
    name: &'static str,
    input: [usize; 3],
    c_out: usize,
    kernel: [usize; 2],
    padding: Padding,
) -> Geometry {
    let window = Window { padding, ..Window::new(kernel) };
    Geometry { name, input, c_out, window, groups: 1, batch: 2 }
}

impl Geometry {
    fn stride(mut self, rows: usize, columns: usize) -> Self {
        self.window.stride = [rows, columns];
        self
    }

    fn dilation(mut self, rows: usize, columns: usize) -> Self {
        self.window.dilation = [rows, columns];
        self
    }

    fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    fn conv(&self) -> Result<Conv2d> {
        Conv2d::new(self.input, self.c_out, self.window, self.groups, self.name)
    }
}

fn explicit(top: usize, bottom: usize, left: usize, right: usize) -> Padding {
    Padding::Explicit { top, bottom, left, right }
}

pub(super) fn cases() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for g in &geometries() {
        for kind in KINDS {
            all.extend(passes(g, kind)?);
        }
    }
    // A case with more workgroups than one axis of the dispatch grid allows, so that the grid is folded.
    let large = geometry("folded grid", [486, 486, 1], 1, [3, 3], Padding::Same).batch(1);
    all.extend(passes(&large, DataKind::Integers)?);
    // Sets of pixels whose sums are long, so that GPUs split them.
    let deep = geometry("deep pixel sets", [7, 6, 10], 132, [5, 5], Padding::Same).stride(2, 2);
    let vec4 = geometry("deep pixel sets vec4", [7, 8, 12], 132, [5, 5], Padding::Same).stride(2, 2).batch(3);
    for g in [deep, vec4] {
        all.extend(passes(&g, DataKind::Integers)?);
    }
    for g in geometries().iter().filter(|g| CHAINED.contains(&g.name)) {
        for kind in KINDS {
            all.extend(chains(g, kind)?);
        }
    }
    for g in geometries().iter().filter(|g| TRANSPOSED.contains(&g.name)) {
        for kind in KINDS {
            all.extend(transposed(g, kind)?);
        }
    }
    for kind in KINDS {
        all.extend(of_transposed_layers(kind));
    }
    for g in geometries().iter().filter(|g| CHAINED.contains(&g.name) || BIAS_SUMS.contains(&g.name)) {
        for kind in KINDS {
            all.push(bias_and_kernel_grad(g, kind)?);
        }
    }
    for g in &pooled_geometries() {
        for kind in KINDS {
            all.extend(pooled(g, kind)?);
        }
    }
    all.extend(split_batches()?);
    all.extend(large_tiles(DataKind::Reals)?);
    all.extend(winograd()?);
    all.extend(fused_winograd()?);
    all.extend(partial_gradients()?);
    all.extend(long_sums()?);
    Ok(all)
}

/// Geometries of the convolution cases: numbers of channels that are and are not a multiple of 4, kernels
/// that are larger and smaller than the input, and strides and dilations that differ between the axes.
fn geometries() -> Vec<Geometry> {
    use Padding::{Same, Valid};
    vec![
        geometry("3x3", [7, 9, 3], 4, [3, 3], Same),
        geometry("3x3 vec4", [6, 5, 4], 8, [3, 3], Same).batch(3),
        geometry("5x5 valid", [9, 8, 1], 10, [5, 5], Valid),
        geometry("1x7", [5, 9, 3], 5, [1, 7], Valid),
        geometry("7x1", [9, 4, 2], 3, [7, 1], Same),
        geometry("2x2 even, one channel out", [5, 5, 2], 1, [2, 2], Same),
        geometry("3x2, stride 2x1", [7, 8, 3], 4, [3, 2], Same).stride(2, 1),
        geometry("2x3, stride 1x3, dilation 2x1", [9, 10, 4], 4, [2, 3], Same).stride(1, 3).dilation(2, 1),
        geometry("dilation 3", [9, 11, 3], 5, [3, 3], Same).dilation(3, 3),
        geometry("dilation 1x2, stride 2x1", [8, 9, 5], 4, [3, 3], Valid).stride(2, 1).dilation(1, 2),
        // Strided convolutions whose input gradients are computed in sets of pixels; all pixels of a set
        // receive contributions from the same kernel elements.
        geometry("3x3 vec4, stride 2", [9, 8, 4], 8, [3, 3], Same).stride(2, 2).batch(3),
        geometry("3x3 vec4, stride 2, dilation 3", [11, 12, 4], 4, [3, 3], Valid).stride(2, 2).dilation(3, 3),
        geometry("5x2 vec4, stride 3x1, dilation 2x1", [13, 4, 4], 4, [5, 2], Valid)
            .stride(3, 1)
            .dilation(2, 1),
        geometry("asymmetric padding", [7, 9, 3], 4, [3, 3], explicit(1, 2, 0, 3)),
        geometry("asymmetric padding, stride 2x3", [7, 9, 4], 5, [3, 2], explicit(0, 3, 2, 1)).stride(2, 3),
        geometry("padding larger than the kernel", [4, 4, 3], 4, [2, 2], explicit(3, 4, 3, 5)),
        geometry("stride larger than the kernel", [8, 10, 3], 4, [2, 2], Same).stride(3, 3),
        geometry("stride larger than the kernel, valid", [9, 8, 4], 1, [1, 2], Valid).stride(3, 4),
        geometry("input smaller than the kernel", [3, 4, 3], 4, [7, 7], Same),
        geometry("input smaller than the kernel, stride 2", [2, 3, 4], 4, [5, 5], Same).stride(2, 2),
        geometry("1x1 map", [1, 1, 17], 33, [3, 3], Same).batch(5),
        geometry("one row", [1, 9, 3], 4, [3, 3], Same),
        geometry("one column", [8, 1, 4], 10, [3, 1], Valid),
        geometry("pointwise vec4", [5, 4, 8], 12, [1, 1], Same).batch(3),
        geometry("pointwise", [3, 5, 5], 10, [1, 1], Valid).batch(3),
        geometry("pointwise to one channel", [4, 4, 4], 1, [1, 1], Same),
        geometry("1x1 kernel, stride 2", [5, 6, 3], 4, [1, 1], Same).stride(2, 2),
        geometry("1x1 kernel, padded", [3, 3, 4], 4, [1, 1], explicit(1, 0, 0, 2)),
        geometry("2 groups", [7, 9, 4], 6, [3, 2], explicit(2, 0, 1, 1)).groups(2),
        geometry("2 groups vec4", [5, 5, 8], 8, [3, 3], Same).groups(2).stride(2, 2),
        geometry("3 groups, 1x1 kernel", [4, 4, 6], 9, [1, 1], Same).groups(3),
        geometry("depthwise", [7, 6, 5], 5, [3, 3], Same).groups(5),
        geometry("depthwise vec4", [7, 10, 8], 8, [3, 3], Same).groups(8).batch(3),
        geometry("depthwise vec4, stride 2x3", [8, 9, 4], 4, [3, 2], explicit(1, 2, 0, 3))
            .groups(4)
            .stride(2, 3),
        geometry("depthwise, dilation 2x1", [9, 9, 3], 3, [2, 9], Same).groups(3).dilation(2, 1),
        geometry("depthwise, many rows", [20, 9, 4], 4, [3, 3], Same).groups(4).batch(5),
        geometry("depthwise, twice the channels", [6, 7, 4], 8, [3, 3], Valid).groups(4).stride(1, 2),
        geometry("33 channels", [5, 6, 5], 33, [3, 3], Same),
        geometry("36 channels vec4", [5, 6, 16], 36, [3, 3], Same),
        geometry("many rows", [13, 11, 3], 5, [3, 3], Same).batch(5),
        // Geometries with long sums, which some GEMM families compute with split-K.
        geometry("many rows vec4", [16, 15, 4], 12, [3, 3], Same).batch(3),
        geometry("many rows in 2 groups", [12, 13, 18], 24, [3, 2], Same).groups(2).batch(4),
        geometry("deep", [6, 5, 63], 12, [3, 3], Same).batch(3),
        geometry("deep vec4", [6, 5, 64], 12, [3, 3], Same).stride(1, 2),
        geometry("deep gradients", [5, 4, 12], 64, [3, 3], Same),
    ]
}

struct Operands {
    x: Operand,
    kernel: Operand,
    dy: Operand,
    bias: Operand,
}

fn operands(c: &Conv2d) -> Operands {
    let w = &c.window;
    Operands {
        x: Operand::batched(&[w.input[0], w.input[1], c.c_in], Fill::Data),
        kernel: Operand::fixed(&c.kernel_shape(), Fill::Data),
        dy: Operand::batched(&[w.output[0], w.output[1], c.c_out], Fill::Data),
        bias: Operand::fixed(&[c.c_out], Fill::Data),
    }
}

/// Cases of the forward convolution, the input gradient and the weight gradient.
fn passes(g: &Geometry, kind: DataKind) -> Result<Vec<Case>> {
    let c = g.conv()?;
    let Operands { x, kernel, dy, .. } = operands(&c);
    let case = |op: Op, operands: Vec<Operand>| {
        single(format!("{} {}", op.name(), g.name), op, g.batch, operands, kind)
    };
    Ok(vec![
        case(Op::Conv2d(c), vec![x.clone(), kernel.clone()]),
        case(Op::Conv2dGradInput(c), vec![dy.clone(), kernel]),
        case(Op::Conv2dGradKernel(c), vec![x, dy]),
    ])
}

/// Cases for which the tiled GEMM family uses its largest tiles, because they have many results or long sums.
fn large_tiles(kind: DataKind) -> Result<Vec<Case>> {
    let forward = geometry("large tiles", [38, 36, 3], 67, [3, 3], Padding::Same).batch(3);
    let forward_vec4 = geometry("large tiles vec4", [38, 36, 4], 68, [3, 3], Padding::Same).batch(3);
    let grad_input = geometry("large tiles", [38, 36, 68], 4, [3, 3], Padding::Same).batch(3);
    let grad_kernel = geometry("large tiles", [46, 45, 9], 66, [3, 3], Padding::Same);
    let grad_kernel_vec4 = geometry("large tiles vec4", [46, 45, 8], 68, [3, 3], Padding::Same);
    // Geometries, each with the index of the selected case in the result of `passes`.
    let chosen = [(forward, 0), (forward_vec4, 0), (grad_input, 1), (grad_kernel, 2), (grad_kernel_vec4, 2)];
    chosen.iter().map(|(g, pass)| Ok(passes(g, kind)?.swap_remove(*pass))).collect()
}

/// Cases with more kernel positions or output pixels than one invocation can loop over: real sizes, and other
/// geometries with a lower limit. The sums of integers are exact in any order.
fn long_sums() -> Result<Vec<Case>> {
    use Padding::{Same, Valid};
    let kind = DataKind::Integers;
    let mut all = Vec::new();
    for g in [
        geometry("depthwise 260x255", [5, 6, 3], 3, [260, 255], Same).groups(3),
        geometry("depthwise 260x255 valid", [260, 256, 4], 4, [260, 255], Valid).groups(4),
        geometry("depthwise, 70,001 columns", [1, 70_001, 2], 2, [1, 3], Same).groups(2).batch(1),
        geometry("depthwise, 70,001 columns vec4", [1, 70_001, 4], 4, [1, 3], Same).groups(4).batch(1),
        geometry("260x255", [5, 4, 1], 3, [260, 255], Same),
        geometry("32,000x1 vec4", [3, 2, 4], 4, [32_000, 1], Same),
    ] {
        // The gradients of a valid window larger than 64,000 pixels have an input pixel for each of them.
        let passes = passes(&g, kind)?;
        let chosen = if g.name.ends_with("valid") { &passes[..1] } else { &passes };
        all.extend_from_slice(chosen);
    }
    for g in [
        geometry("depthwise, 3 rows of 40,000 pixels", [3, 40_000, 2], 2, [3, 1], Same).groups(2).batch(1),
        geometry("depthwise, 8 images of 300x60", [300, 60, 4], 4, [3, 3], Same).groups(4).batch(8),
    ] {
        let grad_kernel = passes(&g, kind)?.swap_remove(2);
        all.push(limited(&grad_kernel, 400));
    }
    let depthwise = geometry("depthwise 4x5", [7, 9, 4], 4, [4, 5], Same).groups(4);
    let forward_and_bias = chains(&depthwise, kind)?;
    all.extend(passes(&depthwise, kind)?[..2].iter().chain(&forward_and_bias).map(|case| limited(case, 16)));
    for (g, limit) in [
        (geometry("elements, 260x255", [260, 255, 1], 2, [3, 3], Same).batch(1), None),
        (geometry("elements, 70,001 columns", [1, 70_001, 1], 2, [1, 3], Same).batch(1), None),
        (geometry("elements, 3 of 24x26", [24, 26, 3], 4, [3, 3], Same).stride(2, 1).batch(3), Some(400)),
        (geometry("elements, 60 of 4x5", [4, 5, 3], 4, [3, 3], Same).batch(60), Some(400)),
    ] {
        let c = g.conv()?;
        let dense = passes(&g, kind)?.swap_remove(2);
        let mask = Mask::from_trainable((0..c.depth() * c.c_out).map(|i| i % 5 == 2));
        let case = with(&dense, "some elements", |ops| {
            ops.partial = Some(Partial { mask, strategy: GradientStrategy::Elements });
        });
        all.push(limit.map_or_else(|| case.clone(), |limit| limited(&case, limit)));
    }
    Ok(all)
}

/// The geometries of [`chains`].
const CHAINED: [&str; 10] = [
    "3x3",
    "3x3 vec4",
    "3x3 vec4, stride 2",
    "3x2, stride 2x1",
    "2x2 even, one channel out",
    "pointwise",
    "2 groups",
    "33 channels",
    "depthwise",
    "depthwise vec4",
];

/// Chains that the compiler fuses: an input gradient and the gradient of the ReLU before it; a convolution
/// and a bias, with and without a ReLU. Each chain is compiled with fusion, and once more with all results as
/// outputs, which prevents fusion.
fn chains(g: &Geometry, kind: DataKind) -> Result<Vec<Case>> {
    let c = g.conv()?;
    let Operands { x, kernel, dy, bias } = operands(&c);
    let mut all = Vec::new();
    let backward = vec![
        (Op::Conv2dGradInput(c), vec![Wire::Operand(0), Wire::Operand(1)]),
        (Op::ReluGrad, vec![Wire::Operand(2), Wire::Result(0, 0)]),
    ];
    let name = format!("conv2d_grad_input, relu_grad {}", g.name);
    let case = chain(name, g.batch, vec![dy, kernel.clone(), x.clone()], backward, kind);
    all.push(with(&case, "all kept", |ops| ops.keep_all = true));
    all.push(case);
    let operands = vec![x, kernel, bias];
    let mut nodes = vec![
        (Op::Conv2d(c), vec![Wire::Operand(0), Wire::Operand(1)]),
        (Op::BiasAdd, vec![Wire::Result(0, 0), Wire::Operand(2)]),
    ];
    for name in ["conv2d, bias", "conv2d, bias, relu"] {
        let case = chain(format!("{name} {}", g.name), g.batch, operands.clone(), nodes.clone(), kind);
        all.push(with(&case, "all kept", |ops| ops.keep_all = true));
        all.push(case);
        nodes.push((Op::Relu, vec![Wire::Result(1, 0)]));
    }
    Ok(all)
}

/// The geometries of [`transposed`]. They select all algorithms with an epilogue (implicit GEMM, sets of
/// pixels at stride 2, pointwise), and those without one (im2col, if the output channels of a group are not a
/// multiple of 4 or there are too many sets of pixels; depthwise).
const TRANSPOSED: [&str; 9] = [
    "3x3 vec4",
    "3x3 vec4, stride 2",
    "pointwise vec4",
    "33 channels",
    "2 groups",
    "stride larger than the kernel",
    "depthwise",
    "depthwise vec4",
    "depthwise vec4, stride 2x3",
];

/// Chains of a transposed convolution (an input gradient as a forward operation) and a bias, with and without
/// a ReLU. Each chain is compiled with fusion if the algorithm has an epilogue, and once more with all
/// results as outputs, which prevents fusion.
fn transposed(g: &Geometry, kind: DataKind) -> Result<Vec<Case>> {
    let c = g.conv()?;
    let Operands { kernel, dy, .. } = operands(&c);
    let operands = vec![dy, kernel, Operand::fixed(&[c.c_in], Fill::Data)];
    let mut nodes = vec![
        (Op::Conv2dGradInput(c), vec![Wire::Operand(0), Wire::Operand(1)]),
        (Op::BiasAdd, vec![Wire::Result(0, 0), Wire::Operand(2)]),
    ];
    let mut all = Vec::new();
    for name in ["conv2d_grad_input, bias", "conv2d_grad_input, bias, relu"] {
        let case = chain(format!("{name} {}", g.name), g.batch, operands.clone(), nodes.clone(), kind);
        all.push(with(&case, "all kept", |ops| ops.keep_all = true));
        all.push(case);
        nodes.push((Op::Relu, vec![Wire::Result(1, 0)]));
    }
    Ok(all)
}

/// Cases with input sizes that only layers of transposed convolution have: rows and columns that no window covers
/// at the end, and fewer windows than there is space for.
fn of_transposed_layers(kind: DataKind) -> Vec<Case> {
    let geometry = |input: [usize; 2], kernel, stride, dilation, pad_begin, output| WindowGeometry {
        input,
        kernel,
        stride,
        dilation,
        pad_begin,
        output,
    };
    let mut all = Vec::new();
    for (name, window) in [
        ("stride 2 with a row and a column more", geometry([6, 8], [3, 3], [2, 2], [1, 1], [1, 1], [3, 4])),
        ("stride 4x3 with gaps", geometry([9, 7], [2, 2], [4, 3], [1, 1], [0, 0], [2, 2])),
        (
            "dilation 3x2 with more rows than windows",
            geometry([10, 6], [3, 2], [1, 1], [3, 2], [1, 0], [4, 4]),
        ),
        ("rows removed on both sides", geometry([3, 4], [4, 3], [2, 1], [1, 1], [3, 2], [3, 5])),
    ] {
        for (channels, c_in, c_out, groups) in
            [("", 3, 2, 1), (" vec4", 4, 8, 1), (" vec4 in 2 groups", 8, 8, 2), (" depthwise", 4, 4, 4)]
        {
            let c = Conv2d { window, c_in, c_out, groups };
            let Operands { x, kernel, dy, .. } = operands(&c);
            for (op, operands) in [
                (Op::Conv2d(c), vec![x.clone(), kernel.clone()]),
                (Op::Conv2dGradInput(c), vec![dy.clone(), kernel]),
                (Op::Conv2dGradKernel(c), vec![x, dy]),
            ] {
                all.push(single(format!("{} {name}{channels}", op.name()), op, 2, operands, kind));
            }
        }
    }
    all
}

/// Geometries of [`bias_and_kernel_grad`] in addition to [`CHAINED`]. They cover sums with and without
/// split-K, and groups.
const BIAS_SUMS: [&str; 5] =
    ["1x1 map", "36 channels vec4", "many rows", "many rows vec4", "many rows in 2 groups"];

/// The gradients of a bias and of its kernel, which some families fuse into one kernel.
fn bias_and_kernel_grad(g: &Geometry, kind: DataKind) -> Result<Case> {
    let c = g.conv()?;
    let Operands { x, dy, .. } = operands(&c);
    let nodes = vec![
        (Op::BiasGrad, vec![Wire::Operand(1)]),
        (Op::Conv2dGradKernel(c), vec![Wire::Operand(0), Wire::Operand(1)]),
    ];
    let case = chain(format!("bias_grad, conv2d_grad_kernel {}", g.name), g.batch, vec![x, dy], nodes, kind);
    Ok(with(&case, "both kept", |ops| ops.keep_all = true))
}

/// Geometries of [`pooled`], with outputs that 2x2 windows divide evenly: scalar and vec4 elements, few and
/// many output channels, groups, and more rows than a GEMM tile has.
fn pooled_geometries() -> Vec<Geometry> {
    use Padding::{Same, Valid};
    vec![
        geometry("3x3", [6, 8, 3], 4, [3, 3], Same).batch(3),
        geometry("5x5 valid", [10, 8, 1], 8, [5, 5], Valid),
        geometry("3x3 vec4", [4, 6, 4], 20, [3, 3], Same).batch(3),
        geometry("3x2, stride 2, vec4", [8, 12, 8], 36, [3, 2], Same).stride(2, 2),
        geometry("2 groups", [6, 4, 8], 8, [3, 3], Same).groups(2),
        geometry("many rows", [22, 20, 2], 4, [3, 3], Same).batch(3),
        geometry("many rows vec4", [12, 14, 4], 36, [3, 3], Same),
    ]
}

/// Chains of a convolution and a 2x2 max-pool, with and without bias and ReLU between them. Each chain is
/// compiled with fusion, and once more with all results as outputs, which prevents fusion.
fn pooled(g: &Geometry, kind: DataKind) -> Result<Vec<Case>> {
    let c = g.conv()?;
    let window = Window { stride: [2, 2], ..Window::new([2, 2]) }.on(c.window.output, g.name)?;
    let pool = Op::MaxPool2d(Pool2d { window, channels: c.c_out });
    let Operands { x, kernel, dy, bias } = operands(&c);
    let mut all = Vec::new();
    let mut nodes = vec![(Op::Conv2d(c), vec![Wire::Operand(0), Wire::Operand(1)])];
    let next = [
        ("conv2d", None),
        ("conv2d, bias", Some((Op::BiasAdd, vec![Wire::Result(0, 0), Wire::Operand(2)]))),
        ("conv2d, bias, relu", Some((Op::Relu, vec![Wire::Result(1, 0)]))),
    ];
    for (name, node) in next {
        nodes.extend(node);
        let mut with_pool = nodes.clone();
        with_pool.push((pool.clone(), vec![Wire::Result(nodes.len() - 1, 0)]));
        let operands = vec![x.clone(), kernel.clone(), bias.clone()];
        let case = chain(format!("{name}, max_pool2d {}", g.name), g.batch, operands, with_pool, kind);
        all.push(with(&case, "all kept", |ops| ops.keep_all = true));
        all.push(case);
    }
    // A chain with the gradient of a ReLU between convolution and max-pool, which cannot be fused into them.
    let relu_grad = vec![
        (Op::Conv2d(c), vec![Wire::Operand(0), Wire::Operand(1)]),
        (Op::ReluGrad, vec![Wire::Operand(2), Wire::Result(0, 0)]),
        (pool, vec![Wire::Result(1, 0)]),
    ];
    let operands = vec![x, kernel, dy];
    all.push(chain(format!("conv2d, relu_grad, max_pool2d {}", g.name), g.batch, operands, relu_grad, kind));
    Ok(all)
}

/// Cases whose workspace is so small that the batch is split: into parts of one image, and into parts of
/// several images with a smaller last part. Short batches end in the first part, at the end of a part, and
/// inside the last part.
fn split_batches() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    let geometries = [
        geometry("3x3", [6, 5, 3], 4, [3, 3], Padding::Same).batch(7),
        geometry("3x2 vec4 in 2 groups", [5, 4, 8], 6, [3, 2], Padding::Valid).groups(2).batch(7),
    ];
    for g in &geometries {
        let c = g.conv()?;
        let image_bytes = 4 * (c.groups * c.window.outputs() * c.depth()) as u64;
        for kind in KINDS {
            let mut unsplit = passes(g, kind)?;
            // The last of the chains, which is a fused convolution, bias and ReLU.
            unsplit.extend(chains(g, kind)?.pop());
            for case in unsplit {
                for images in [1, 3] {
                    all.push(with(&case, &format!("{images} images at a time"), |ops| {
                        ops.workspace_bytes = Some(images * image_bytes);
                        ops.short_batches = vec![1, 3, 6];
                    }));
                }
            }
        }
    }
    Ok(all)
}

/// Geometries for Winograd's transforms: images whose size is and is not a multiple of the tile size, and
/// smaller than a tile; padding on one side only; more channels than a GEMM tile has.
fn winograd_geometries() -> Vec<Geometry> {
    use Padding::{Same, Valid};
    vec![
        geometry("8x8", [8, 8, 4], 8, [3, 3], Same).batch(3),
        geometry("7x9", [7, 9, 8], 4, [3, 3], Same).batch(3),
        geometry("6x11 valid", [6, 11, 4], 4, [3, 3], Valid),
        geometry("2x3", [2, 3, 4], 4, [3, 3], Same).batch(5),
        geometry("asymmetric padding", [5, 6, 4], 4, [3, 3], explicit(2, 0, 0, 3)).batch(4),
        geometry("12x4, 36 channels", [12, 4, 16], 36, [3, 3], Same),
        geometry("5x5, 40 to 16 channels", [5, 5, 40], 16, [3, 3], Same),
        geometry("8x8 by 5x5", [8, 8, 4], 8, [5, 5], Same).batch(3),
        geometry("9x11 by 5x5, valid", [9, 11, 8], 4, [5, 5], Valid),
        geometry("2x3 by 5x5", [2, 3, 4], 4, [5, 5], Same).batch(5),
        geometry("5x5, asymmetric padding", [5, 6, 4], 4, [5, 5], explicit(4, 0, 1, 3)).batch(4),
        geometry("5x4 by 5x5, 40 to 36 channels", [5, 4, 40], 36, [5, 5], Same),
    ]
}

/// Geometries for a Winograd convolution with a fused max-pool. They have few results, so that any two
/// results in a pooling window differ by more than their bounds.
fn pooled_winograd_geometries() -> Vec<Geometry> {
    use Padding::Same;
    vec![
        geometry("4x6 to 4", [4, 6, 4], 4, [3, 3], Same).batch(3),
        geometry("8x8", [8, 8, 4], 4, [3, 3], Same),
        geometry("4x4, 5x5 kernel", [4, 4, 4], 4, [5, 5], Same),
    ]
}

/// Winograd convolutions; batches of more than 2 images are also run split into single images.
fn winograd() -> Result<Vec<Case>> {
    let mut direct = Vec::new();
    for g in &winograd_geometries() {
        let mut cases = passes(g, DataKind::Reals)?;
        cases.extend(chains(g, DataKind::Reals)?);
        if TRANSPOSED_WINOGRAD.contains(&g.name) {
            cases.extend(transposed(g, DataKind::Reals)?);
        }
        direct.push((g.batch, cases));
    }
    for g in &pooled_winograd_geometries() {
        direct.push((g.batch, pooled(g, DataKind::Reals)?));
    }
    let mut all = Vec::new();
    for (batch, cases) in direct {
        for case in cases {
            let case = with(&case, "winograd", |ops| ops.winograd = Winograd::Always);
            if batch > 2 {
                all.push(with(&case, "in parts", |ops| ops.workspace_bytes = Some(4)));
            }
            all.push(case);
        }
    }
    Ok(all)
}

/// The geometries of [`winograd`] that are also used for [`transposed`] chains.
const TRANSPOSED_WINOGRAD: [&str; 2] = ["7x9", "2x3 by 5x5"];

/// Geometries for the fused Winograd kernel: images whose size is and is not a multiple of a block of 4x4, and
/// smaller than one; padding on one side only; one and several steps of channels; more blocks and more channels than a
/// workgroup has.
fn fused_winograd_geometries() -> Vec<Geometry> {
    use Padding::{Same, Valid};
    vec![
        geometry("8x8", [8, 8, 4], 8, [3, 3], Same).batch(3),
        geometry("7x9", [7, 9, 8], 4, [3, 3], Same).batch(3),
        geometry("6x11 valid", [6, 11, 4], 4, [3, 3], Valid),
        geometry("2x3", [2, 3, 4], 4, [3, 3], Same).batch(5),
        geometry("asymmetric padding", [5, 6, 4], 4, [3, 3], explicit(2, 0, 0, 3)).batch(4),
        geometry("13x14, 36 to 12 channels", [13, 14, 36], 12, [3, 3], Same),
        geometry("5x5, 40 to 68 channels", [5, 5, 40], 68, [3, 3], Same),
    ]
}

/// Fused Winograd kernels. On integers they are exact: their transforms only add and halve.
fn fused_winograd() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for kind in KINDS {
        for g in &fused_winograd_geometries() {
            all.extend_from_slice(&passes(g, kind)?[..2]);
            if ["7x9", "2x3"].contains(&g.name) {
                all.extend(chains(g, kind)?);
                all.extend(transposed(g, kind)?);
            }
        }
        for g in pooled_winograd_geometries().iter().filter(|g| g.window.kernel == [3, 3]) {
            all.extend(pooled(g, kind)?);
        }
    }
    let fused = |case: &Case| with(case, "winograd fused", |ops| ops.winograd = Winograd::Fused);
    Ok(all.iter().map(fused).collect())
}

/// Weight gradients of partly frozen kernels by every partial algorithm: on integers for each geometry that
/// supports the algorithm, and on reals for those of [`PARTIAL_ON_REALS`].
fn partial_gradients() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for g in geometries() {
        let conv = g.conv()?;
        let w = &conv.window;
        let operands = [
            Operand::batched(&[w.input[0], w.input[1], conv.c_in], Fill::Data),
            Operand::batched(&[w.output[0], w.output[1], conv.c_out], Fill::Data),
        ];
        for kind in KINDS {
            if kind == DataKind::Integers || PARTIAL_ON_REALS.contains(&g.name) {
                let name = format!("conv2d_grad_kernel {}", g.name);
                let dense = single(name, Op::Conv2dGradKernel(conv), g.batch, operands.to_vec(), kind);
                all.extend(partial_strategies(&dense, &conv));
            }
        }
    }
    // Partly frozen dense layers, expressed as 1x1 convolutions of a single pixel.
    for (inputs, outputs) in [(7, 5), (16, 12), (40, 36)] {
        let conv = Conv2d::new([1, 1, inputs], outputs, Window::new([1, 1]), 1, "dense")?;
        let operands = [Operand::batched(&[inputs], Fill::Data), Operand::batched(&[outputs], Fill::Data)];
        let op = Op::MatMul { transpose_a: true, transpose_b: false };
        for kind in KINDS {
            let name = format!("matmul gradient {inputs} to {outputs}");
            all.extend(partial_strategies(&single(name, op.clone(), 6, operands.to_vec(), kind), &conv));
        }
    }
    Ok(all)
}

const PARTIAL_ON_REALS: [&str; 3] = ["3x3 vec4", "asymmetric padding, stride 2x3", "36 channels vec4"];

/// The dense case with each strategy and a suitable mask; for geometries of [`PARTIAL_ON_REALS`] also with
/// the batch split into single images.
fn partial_strategies(dense: &Case, conv: &Conv2d) -> Vec<Case> {
    let elements = conv.depth() * conv.c_out;
    let mut all = Vec::new();
    let mut add = |name: &str, strategy: GradientStrategy, trainable: &dyn Fn(usize) -> bool| {
        let mask = Mask::from_trainable((0..elements).map(trainable));
        let case = with(dense, name, |ops| ops.partial = Some(Partial { mask, strategy }));
        let split = with(&case, "in parts", |ops| ops.workspace_bytes = Some(4));
        all.push(case);
        if PARTIAL_ON_REALS.iter().any(|name| dense.name.contains(name))
            && strategy != GradientStrategy::Elements
        {
            all.push(split);
        }
    };
    let (columns, last_row) = (conv.c_out, conv.depth() - 1);
    if conv.groups == 1 {
        let in_columns = |i: usize| i % columns % 3 == 1 || i % columns == columns - 1;
        add("some columns", GradientStrategy::Columns, &in_columns);
        let in_rows = |i: usize| i / columns % 4 == 1 || i / columns == last_row;
        add("some rows", GradientStrategy::Rows, &in_rows);
    }
    add("some elements", GradientStrategy::Elements, &|i| i % 5 == 2 || i == elements - 1);
    all
}
