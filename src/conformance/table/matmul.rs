//! Matrix multiplications, alone and in fused chains.

use super::build::{KINDS, chain, single, with};
use crate::conformance::case::{Case, DataKind, Fill, Operand, Wire};
use crate::graph::Op;
use crate::kernels::MAX_TERMS;

/// `[m, k, n]`: single rows and columns, sizes near the tile sizes, k that is not a multiple of the unrolled
/// step, and several workgroups along n.
const SIZES: [[usize; 3]; 12] = [
    [1, 1, 1],
    [3, 4, 7],
    [4, 8, 16],
    [7, 3, 33],
    [8, 7, 4],
    [16, 33, 1],
    [33, 65, 8],
    [65, 16, 65],
    [64, 64, 64],
    [130, 20, 40],
    [3, 5, 513],
    [2, 8, 1100],
];

/// Only this many of the first [`SIZES`] are used with all combinations of transposed operands, because each
/// combination compiles another shader.
const TRANSPOSED: usize = 9;

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in KINDS {
        for (number, &size) in SIZES.iter().enumerate() {
            all.push(rows(size, false, kind));
            all.push(rows(size, true, kind));
            if number < TRANSPOSED {
                all.push(sums(size, kind));
                all.push(sums_and_bias_grad(size, kind));
                all.push(fixed(size, true, true, kind));
            }
            if size[0] % 4 == 0 {
                all.push(fixed(size, false, false, kind));
                all.push(fixed(size, true, false, kind));
            }
        }
        for size in [[7, 3, 33], [4, 8, 16], [33, 65, 8], [3, 5, 513]] {
            all.extend(chains(size, kind));
        }
    }
    // Cases whose k is longer than one dispatch can sum, so that it is divided into parts: short batches end
    // in the first part, and epilogues are applied in the last part.
    let kind = DataKind::Integers;
    let long = [5, 2 * MAX_TERMS + 4_471, 6];
    all.extend([rows(long, false, kind), fixed(long, true, true, kind)]);
    all.push(with(&sums(long, kind), "many rows", |ops| {
        ops.short_batches = vec![7, MAX_TERMS + 8, 2 * MAX_TERMS]
    }));
    all.push(sums_and_bias_grad(long, kind));
    all.extend(chains([3, MAX_TERMS + 1, 4], kind));
    // Epilogues that follow the sum of splits, of vec4 and of scalars.
    all.extend(chains([24, 1_300, 20], kind));
    all.extend(chains([33, 1_300, 19], DataKind::Reals));
    all.extend(chains([4, 1_300, 20], kind));
    all.extend(split_k());
    all.extend(large_tiles(DataKind::Reals));
    // A case with more workgroups than one axis of the dispatch grid allows, so that the grid is folded.
    all.push(fixed([1_048_640, 1, 1], false, false, DataKind::Integers));
    all
}

/// Cases with long sums, which some GEMM families compute with split-K. With short batches, some splits are
/// empty or end early.
fn split_k() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in KINDS {
        for size in [[24, 1_100, 20], [13, 300, 11], [5, 515, 6]] {
            all.push(with(&sums(size, kind), "many rows", |ops| ops.short_batches = vec![1, 150, 257]));
            all.push(with(&sums_and_bias_grad(size, kind), "many rows", |ops| {
                ops.short_batches = vec![1, 150, 257]
            }));
        }
        // Few rows, of which GPUs split k too.
        all.push(rows([4, 1_100, 36], false, kind));
        all.push(rows([3, 1_300, 19], true, kind));
        all.push(rows([33, 700, 20], false, kind));
        all.push(rows([33, 515, 19], true, kind));
        all.push(fixed([17, 390, 21], true, true, kind));
    }
    all
}

/// Cases for which the tiled GEMM family uses its largest tiles, because they have many results or long sums.
fn large_tiles(kind: DataKind) -> Vec<Case> {
    let (odd, vec4, deep) = ([4_060, 9, 67], [4_060, 8, 68], [70, 4_100, 66]);
    let mut all: Vec<_> = [odd, vec4].map(|size| rows(size, true, kind)).into();
    all.extend([odd, vec4].map(|size| rows(size, false, kind)));
    all.extend([sums(deep, kind), sums([72, 4_100, 68], kind), fixed(deep, true, true, kind)]);
    all
}

fn op(transpose_a: bool, transpose_b: bool) -> Op {
    Op::MatMul { transpose_a, transpose_b }
}

fn name(what: &str, [m, k, n]: [usize; 3], transpose_a: bool, transpose_b: bool) -> String {
    let mark = |transposed: bool| if transposed { "^T" } else { "" };
    format!("matmul {m}x{k}{} {k}x{n}{}, {what}", mark(transpose_a), mark(transpose_b))
}

/// The stored extents of a `[rows, columns]` matrix.
fn stored([rows, columns]: [usize; 2], transposed: bool) -> [usize; 2] {
    if transposed { [columns, rows] } else { [rows, columns] }
}

/// A case in which neither operand has a batch axis.
fn fixed(size: [usize; 3], transpose_a: bool, transpose_b: bool, kind: DataKind) -> Case {
    let [m, k, n] = size;
    let operands = vec![
        Operand::fixed(&stored([m, k], transpose_a), Fill::Data),
        Operand::fixed(&stored([k, n], transpose_b), Fill::Data),
    ];
    single(name("no batch", size, transpose_a, transpose_b), op(transpose_a, transpose_b), 1, operands, kind)
}

/// A case in which the batch is the rows of the result, as in a dense layer and its input gradient.
fn rows(size: [usize; 3], transpose_b: bool, kind: DataKind) -> Case {
    let [m, k, n] = size;
    let operands =
        vec![Operand::batched(&[k], Fill::Data), Operand::fixed(&stored([k, n], transpose_b), Fill::Data)];
    single(name("batched rows", size, false, transpose_b), op(false, transpose_b), m, operands, kind)
}

/// A case that sums over the batch, as in the weight gradient of a dense layer.
fn sums(size: [usize; 3], kind: DataKind) -> Case {
    let [m, k, n] = size;
    let operands = vec![Operand::batched(&[m], Fill::Data), Operand::batched(&[n], Fill::Data)];
    single(name("batched sums", size, true, false), op(true, false), k, operands, kind)
}

/// The weight and bias gradients of a dense layer, which some families fuse into one kernel.
fn sums_and_bias_grad(size: [usize; 3], kind: DataKind) -> Case {
    let [m, k, n] = size;
    let operands = vec![Operand::batched(&[m], Fill::Data), Operand::batched(&[n], Fill::Data)];
    let nodes = vec![
        (Op::BiasGrad, vec![Wire::Operand(1)]),
        (op(true, false), vec![Wire::Operand(0), Wire::Operand(1)]),
    ];
    let case = chain(name("bias_grad, batched sums", size, true, false), k, operands, nodes, kind);
    with(&case, "both kept", |ops| ops.keep_all = true)
}

/// Chains of a matrix multiplication and a bias, with and without a ReLU, and of a matrix multiplication and
/// the gradient of a ReLU. Each chain is compiled with fusion, and once more with all results as outputs,
/// which prevents fusion.
fn chains(size: [usize; 3], kind: DataKind) -> Vec<Case> {
    let [m, k, n] = size;
    let operands = vec![
        Operand::batched(&[k], Fill::Data),
        Operand::fixed(&[k, n], Fill::Data),
        Operand::fixed(&[n], Fill::Data),
    ];
    let mut nodes = vec![
        (op(false, false), vec![Wire::Operand(0), Wire::Operand(1)]),
        (Op::BiasAdd, vec![Wire::Result(0, 0), Wire::Operand(2)]),
    ];
    let mut all = Vec::new();
    for what in ["with bias", "with bias and relu"] {
        let case = chain(name(what, size, false, false), m, operands.clone(), nodes.clone(), kind);
        all.push(with(&case, "all kept", |ops| ops.keep_all = true));
        all.push(case);
        nodes.push((Op::Relu, vec![Wire::Result(1, 0)]));
    }
    // The input gradient of a dense layer, and the gradient of the ReLU before it.
    let backward = vec![
        (op(false, true), vec![Wire::Operand(0), Wire::Operand(1)]),
        (Op::ReluGrad, vec![Wire::Operand(2), Wire::Result(0, 0)]),
    ];
    let operands = vec![
        Operand::batched(&[k], Fill::Data),
        Operand::fixed(&[n, k], Fill::Data),
        Operand::batched(&[n], Fill::Data),
    ];
    let case = chain(name("through relu", size, false, true), m, operands, backward, kind);
    all.push(with(&case, "all kept", |ops| ops.keep_all = true));
    all.push(case);
    all
}
