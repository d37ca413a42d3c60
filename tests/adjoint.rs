//! Tests the adjoint identities of convolutions and matrix multiplications `y = f(x, w)` and their gradients
//! dX and dW: `dot(y, dy) = dot(w, dw) = dot(x, dx)` for any `dy`, because f is linear in x and in w.

use crate::support::compare::largest;
use crate::support::device::{device, families};
use crate::support::executor::{Fault, Faulty, Make, Operand, evaluate_one, reference};
use crate::support::random::{convolution, convolution_shapes, elements, normal, stream};
use frazil::low_level::Stream;
use frazil::low_level::{Conv2d, Graph, Op};

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Returns the largest difference between the three dot products `dot(y, dy)`, `dot(w, dw)` and `dot(x, dx)`,
/// relative to the largest product of the norms of a pair.
fn disagreement(pairs: [(&[f64], &[f64]); 3]) -> f64 {
    let dots = pairs.map(|(a, b)| dot(a, b));
    let scale = largest(pairs.map(|(a, b)| (dot(a, a) * dot(b, b)).sqrt()));
    let difference = largest([(dots[0] - dots[1]).abs(), (dots[0] - dots[2]).abs()]);
    // A random convolution may have outputs that all read only padding. Then all dot products and norms are
    // 0.
    if scale == 0.0 { difference } else { difference / scale }
}

/// Returns the [`disagreement`] of a convolution, its input gradient and its weight gradient on random data.
pub fn convolution_disagreement(make: Make, c: Conv2d, batch: usize, data: &mut Stream) -> f64 {
    let shapes = convolution_shapes(&c, batch);
    let [x, kernel, dy] = [0, 1, 2].map(|i| normal(data, elements(&shapes[i])));
    let x_operand = Operand::batch(&shapes[0], x.clone());
    let kernel_operand = Operand::fixed(&shapes[1], kernel.clone());
    let dy_operand = Operand::batch(&shapes[2], dy.clone());
    let y = evaluate_one(make, Op::Conv2d(c), &[x_operand.clone(), kernel_operand.clone()]);
    let dx = evaluate_one(make, Op::Conv2dGradInput(c), &[dy_operand.clone(), kernel_operand]);
    let dkernel = evaluate_one(make, Op::Conv2dGradKernel(c), &[x_operand, dy_operand]);
    disagreement([(&y, &dy), (&kernel, &dkernel), (&x, &dx)])
}

/// Returns the [`disagreement`] of a matrix multiplication `x [m,k] * w [k,n]` and its two gradients on
/// random data.
pub fn matmul_disagreement(make: Make, [m, k, n]: [usize; 3], data: &mut Stream) -> f64 {
    let [x, w, dy] = [m * k, k * n, m * n].map(|count| normal(data, count));
    let x_operand = Operand::batch(&[m, k], x.clone());
    let w_operand = Operand::fixed(&[k, n], w.clone());
    let dy_operand = Operand::batch(&[m, n], dy.clone());
    let matmul = |transpose_a, transpose_b| Op::MatMul { transpose_a, transpose_b };
    let y = evaluate_one(make, matmul(false, false), &[x_operand.clone(), w_operand.clone()]);
    let dx = evaluate_one(make, matmul(false, true), &[dy_operand.clone(), w_operand]);
    let dw = evaluate_one(make, matmul(true, false), &[x_operand, dy_operand]);
    disagreement([(&y, &dy), (&w, &dw), (&x, &dx)])
}

/// Returns the largest [`disagreement`] over `count` random convolutions.
pub fn worst_convolution(make: Make, count: usize, seed: u64) -> f64 {
    let mut data = stream(seed);
    let draw = |_| {
        let (c, batch) = convolution(&mut data);
        convolution_disagreement(make, c, batch, &mut data)
    };
    largest((0..count).map(draw))
}

/// Returns the largest [`disagreement`] over `count` random matrix multiplications.
pub fn worst_matmul(make: Make, count: usize, seed: u64) -> f64 {
    let mut data = stream(seed);
    let draw = |_| {
        let extents = [0; 3].map(|_| 1 + data.below(12));
        matmul_disagreement(make, extents, &mut data)
    };
    largest((0..count).map(draw))
}

/// Maximum [`disagreement`] in f64: sums have at most a few hundred terms, so their rounding errors are about
/// 1e-16 of the norms.
const TOLERANCE: f64 = 1e-13;

#[test]
fn convolution_gradients_are_adjoint_in_reference() {
    let worst = worst_convolution(&reference, 300, 1);
    println!("worst of 300 convolutions: {worst:.1e}");
    assert!(worst < TOLERANCE, "{worst:e}");
}

#[test]
fn matmul_gradients_are_adjoint_in_reference() {
    let worst = worst_matmul(&reference, 100, 2);
    println!("worst of 100 matrix multiplications: {worst:.1e}");
    assert!(worst < TOLERANCE, "{worst:e}");
}

#[test]
fn injected_error_is_detected() {
    // `Fault::Scale` multiplies the results of one operation by 1.001. The adjoint identities must then fail,
    // even with a threshold that f32 executors stay below.
    let threshold = 1e-5;
    for op in ["conv2d", "conv2d_grad_input", "conv2d_grad_kernel"] {
        let make = move |graph: &_| Faulty::boxed(&reference, graph, Fault::Scale { op, factor: 1.001 });
        let worst = worst_convolution(&make, 20, 3);
        assert!(worst > threshold, "{op}: {worst:e}");
    }
    let make = |graph: &_| Faulty::boxed(&reference, graph, Fault::Scale { op: "matmul", factor: 1.001 });
    let worst = worst_matmul(&make, 20, 4);
    assert!(worst > threshold, "matmul: {worst:e}");
}

/// Maximum [`disagreement`] in f32: sums have a few hundred terms, each with a relative rounding error of
/// 6e-8.
const DEVICE_TOLERANCE: f64 = 1e-6;

#[test]
fn gradients_are_adjoint_on_device_in_every_gemm_family() {
    for family in families() {
        let make = move |graph: &Graph| device(graph, family);
        let (convolution, matmul) = (worst_convolution(&make, 40, 21), worst_matmul(&make, 40, 22));
        println!("{family}: convolution {convolution:.1e}, matmul {matmul:.1e}");
        assert!(convolution < DEVICE_TOLERANCE && matmul < DEVICE_TOLERANCE, "{convolution} {matmul}");
    }
}
