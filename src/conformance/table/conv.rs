//! Convolutions, and chains that begin with one.

use super::{KINDS, chain, single, with};
use crate::conformance::case::{Case, DataKind, Fill, Operand, Wire};
use crate::error::Result;
use crate::graph::{Conv2d, Op, Pool2d};
use crate::shape::{Padding, Window};

/// A geometry: images `[h, w, c]`, output channels, window, groups, batch.
pub(super) struct Geometry {
    pub name: &'static str,
    input: [usize; 3],
    c_out: usize,
    window: Window,
    groups: usize,
    pub batch: usize,
}

pub(super) fn geometry(
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

    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    pub fn conv(&self) -> Result<Conv2d> {
        Conv2d::new(self.input, self.c_out, self.window, self.groups, self.name)
    }
}

pub(super) fn explicit(top: usize, bottom: usize, left: usize, right: usize) -> Padding {
    Padding::Explicit { top, bottom, left, right }
}

/// Channels come in fours and not, kernels are larger and smaller than their input, strides and dilations differ by axis.
pub(super) fn geometries() -> Vec<Geometry> {
    use Padding::{Same, Valid};
    vec![
        geometry("3x3", [7, 9, 3], 4, [3, 3], Same),
        geometry("3x3 by fours", [6, 5, 4], 8, [3, 3], Same).batch(3),
        geometry("5x5 valid", [9, 8, 1], 10, [5, 5], Valid),
        geometry("1x7", [5, 9, 3], 5, [1, 7], Valid),
        geometry("7x1", [9, 4, 2], 3, [7, 1], Same),
        geometry("2x2 even, one channel out", [5, 5, 2], 1, [2, 2], Same),
        geometry("3x2, stride 2x1", [7, 8, 3], 4, [3, 2], Same).stride(2, 1),
        geometry("2x3, stride 1x3, dilation 2x1", [9, 10, 4], 4, [2, 3], Same).stride(1, 3).dilation(2, 1),
        geometry("dilation 3", [9, 11, 3], 5, [3, 3], Same).dilation(3, 3),
        geometry("dilation 1x2, stride 2x1", [8, 9, 5], 4, [3, 3], Valid).stride(2, 1).dilation(1, 2),
        // Gradients that go back through a stride, set of pixels by set.
        geometry("3x3 by fours, stride 2", [9, 8, 4], 8, [3, 3], Same).stride(2, 2).batch(3),
        geometry("3x3 by fours, stride 2, dilation 3", [11, 12, 4], 4, [3, 3], Valid)
            .stride(2, 2)
            .dilation(3, 3),
        geometry("5x2 by fours, stride 3x1, dilation 2x1", [13, 4, 4], 4, [5, 2], Valid)
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
        geometry("pointwise by fours", [5, 4, 8], 12, [1, 1], Same).batch(3),
        geometry("pointwise", [3, 5, 5], 10, [1, 1], Valid).batch(3),
        geometry("pointwise to one channel", [4, 4, 4], 1, [1, 1], Same),
        geometry("1x1 kernel, stride 2", [5, 6, 3], 4, [1, 1], Same).stride(2, 2),
        geometry("1x1 kernel, padded", [3, 3, 4], 4, [1, 1], explicit(1, 0, 0, 2)),
        geometry("2 groups", [7, 9, 4], 6, [3, 2], explicit(2, 0, 1, 1)).groups(2),
        geometry("2 groups by fours", [5, 5, 8], 8, [3, 3], Same).groups(2).stride(2, 2),
        geometry("3 groups, 1x1 kernel", [4, 4, 6], 9, [1, 1], Same).groups(3),
        geometry("depthwise", [7, 6, 5], 5, [3, 3], Same).groups(5),
        geometry("depthwise by fours", [7, 10, 8], 8, [3, 3], Same).groups(8).batch(3),
        geometry("depthwise by fours, stride 2x3", [8, 9, 4], 4, [3, 2], explicit(1, 2, 0, 3))
            .groups(4)
            .stride(2, 3),
        geometry("depthwise, dilation 2x1", [9, 9, 3], 3, [2, 9], Same).groups(3).dilation(2, 1),
        geometry("depthwise, many rows", [20, 9, 4], 4, [3, 3], Same).groups(4).batch(5),
        geometry("depthwise, twice the channels", [6, 7, 4], 8, [3, 3], Valid).groups(4).stride(1, 2),
        geometry("33 channels", [5, 6, 5], 33, [3, 3], Same),
        geometry("36 channels by fours", [5, 6, 16], 36, [3, 3], Same),
        geometry("many rows", [13, 11, 3], 5, [3, 3], Same).batch(5),
        // Sums that some families cut into slices.
        geometry("many rows by fours", [16, 15, 4], 12, [3, 3], Same).batch(3),
        geometry("many rows in 2 groups", [12, 13, 18], 24, [3, 2], Same).groups(2).batch(4),
        geometry("deep", [6, 5, 63], 12, [3, 3], Same).batch(3),
        geometry("deep by fours", [6, 5, 64], 12, [3, 3], Same).stride(1, 2),
        geometry("deep gradients", [5, 4, 12], 64, [3, 3], Same),
    ]
}

/// Forward and both gradients with as many results, or terms, as the largest tiles take.
fn large_tiles(kind: DataKind) -> Result<Vec<Case>> {
    let forward = geometry("large tiles", [38, 36, 3], 67, [3, 3], Padding::Same).batch(3);
    let is_vec4 = geometry("large tiles by fours", [38, 36, 4], 68, [3, 3], Padding::Same).batch(3);
    let back = geometry("large tiles", [38, 36, 68], 4, [3, 3], Padding::Same).batch(3);
    let kernel = geometry("large tiles", [46, 45, 9], 66, [3, 3], Padding::Same);
    let kernel_by_fours = geometry("large tiles by fours", [46, 45, 8], 68, [3, 3], Padding::Same);
    // Of each: which one of forward, the input's gradient, the kernel's gradient.
    let chosen = [(forward, 0), (is_vec4, 0), (back, 1), (kernel, 2), (kernel_by_fours, 2)];
    chosen.iter().map(|(g, which)| Ok(adjoints(g, kind)?.swap_remove(*which))).collect()
}

pub(super) fn cases() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for g in &geometries() {
        for kind in KINDS {
            all.extend(adjoints(g, kind)?);
        }
    }
    // More workgroups than fit one axis of the grid.
    let large = geometry("folded grid", [486, 486, 1], 1, [3, 3], Padding::Same).batch(1);
    all.extend(adjoints(&large, DataKind::Integers)?);
    for g in geometries().iter().filter(|g| CHAINED.contains(&g.name)) {
        for kind in KINDS {
            all.extend(chains(g, kind)?);
        }
    }
    for g in geometries().iter().filter(|g| CHAINED.contains(&g.name) || SUMMED.contains(&g.name)) {
        for kind in KINDS {
            all.push(bias_beside(g, kind)?);
        }
    }
    for g in &pooled_geometries() {
        for kind in KINDS {
            all.extend(pooled(g, kind)?);
        }
    }
    all.extend(chunked()?);
    all.extend(large_tiles(DataKind::Reals)?);
    Ok(all)
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

/// Forward and both gradients.
pub(super) fn adjoints(g: &Geometry, kind: DataKind) -> Result<Vec<Case>> {
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

/// Geometries that are followed by a bias and ReLU as well.
const CHAINED: [&str; 10] = [
    "3x3",
    "3x3 by fours",
    "3x3 by fours, stride 2",
    "3x2, stride 2x1",
    "2x2 even, one channel out",
    "pointwise",
    "2 groups",
    "33 channels",
    "depthwise",
    "depthwise by fours",
];

/// Geometries whose bias's gradient is summed beside the kernel's as well: whole, in slices, and in groups.
const SUMMED: [&str; 5] =
    ["1x1 map", "36 channels by fours", "many rows", "many rows by fours", "many rows in 2 groups"];

/// The gradients of a bias and of its kernel, which some families compute together.
fn bias_beside(g: &Geometry, kind: DataKind) -> Result<Case> {
    let c = g.conv()?;
    let Operands { x, dy, .. } = operands(&c);
    let nodes = vec![
        (Op::BiasGrad, vec![Wire::Operand(1)]),
        (Op::Conv2dGradKernel(c), vec![Wire::Operand(0), Wire::Operand(1)]),
    ];
    let case = chain(format!("bias_grad, conv2d_grad_kernel {}", g.name), g.batch, vec![x, dy], nodes, kind);
    Ok(with(&case, "both kept", |ops| ops.keep_all = true))
}

/// Convolution, bias, and ReLU or not: as one kernel, and with all results kept as several.
pub(super) fn chains(g: &Geometry, kind: DataKind) -> Result<Vec<Case>> {
    let c = g.conv()?;
    let Operands { x, kernel, dy, bias } = operands(&c);
    let mut all = Vec::new();
    // Back through the ReLU before it.
    let back = vec![
        (Op::Conv2dGradInput(c), vec![Wire::Operand(0), Wire::Operand(1)]),
        (Op::ReluGrad, vec![Wire::Operand(2), Wire::Result(0, 0)]),
    ];
    let name = format!("conv2d_grad_input, relu_grad {}", g.name);
    let case = chain(name, g.batch, vec![dy, kernel.clone(), x.clone()], back, kind);
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

/// Images that windows of 2x2 tile: elements one by one and by fours, few columns and many, groups, more rows than a tile has.
fn pooled_geometries() -> Vec<Geometry> {
    use Padding::{Same, Valid};
    vec![
        geometry("3x3", [6, 8, 3], 4, [3, 3], Same).batch(3),
        geometry("5x5 valid", [10, 8, 1], 8, [5, 5], Valid),
        geometry("3x3 by fours", [4, 6, 4], 20, [3, 3], Same).batch(3),
        geometry("3x2 by fours, stride 2", [8, 12, 8], 36, [3, 2], Same).stride(2, 2),
        geometry("2 groups", [6, 4, 8], 8, [3, 3], Same).groups(2),
        geometry("many rows", [22, 20, 2], 4, [3, 3], Same).batch(3),
        geometry("many rows by fours", [12, 14, 4], 36, [3, 3], Same),
    ]
}

/// Convolution, bias and ReLU or not, and a pool of 2x2: as one kernel, and with all results kept as several.
pub(super) fn pooled(g: &Geometry, kind: DataKind) -> Result<Vec<Case>> {
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
    // Whatever stands between the two is not forgotten.
    let masked = vec![
        (Op::Conv2d(c), vec![Wire::Operand(0), Wire::Operand(1)]),
        (Op::ReluGrad, vec![Wire::Operand(2), Wire::Result(0, 0)]),
        (pool, vec![Wire::Result(1, 0)]),
    ];
    let operands = vec![x, kernel, dy];
    all.push(chain(format!("conv2d, relu_grad, max_pool2d {}", g.name), g.batch, operands, masked, kind));
    Ok(all)
}

/// Batches cut into parts: of one image, and of several with a smaller last one. Short batches end in the first part, at
/// the end of a part, and inside the last.
fn chunked() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    let geometries = [
        geometry("3x3", [6, 5, 3], 4, [3, 3], Padding::Same).batch(7),
        geometry("3x2 by fours in 2 groups", [5, 4, 8], 6, [3, 2], Padding::Valid).groups(2).batch(7),
    ];
    for g in &geometries {
        let c = g.conv()?;
        let image = 4 * (c.groups * c.window.outputs() * c.depth()) as u64;
        for kind in KINDS {
            let mut whole = adjoints(g, kind)?;
            whole.extend(chains(g, kind)?.into_iter().skip(5));
            for case in whole {
                for images in [1, 3] {
                    all.push(with(&case, &format!("{images} images at a time"), |ops| {
                        ops.workspace_bytes = Some(images * image);
                        ops.short = vec![1, 3, 6];
                    }));
                }
            }
        }
    }
    Ok(all)
}
