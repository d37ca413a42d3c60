//! Products, activations, normalization.

use super::layout::*;
use super::{Refusal, Results};
use crate::support::executor::{Make, evaluate_one};
use crate::support::onnx::{Case, Tensor};
use frazil::graph::Op;

/// `[rows, columns]` stored the other way round.
fn transposed(t: Tensor, transpose: bool) -> Tensor {
    if transpose { permute(&t, &[1, 0]) } else { t }
}

/// `[left | right]`, of two matrices with the same rows.
fn beside(left: &Tensor, right: &Tensor) -> Tensor {
    let (rows, columns) = (left.shape[0], left.shape[1] + right.shape[1]);
    let row = |t: &Tensor, r: usize| t.data[r * t.shape[1]..(r + 1) * t.shape[1]].to_vec();
    tensor(&[rows, columns], (0..rows).flat_map(|r| [row(left, r), row(right, r)].concat()).collect())
}

/// `alpha*a*b + beta*c`. Where c has rows of its own, it goes into the product: `[alpha*a | I] * [b; beta*c]`.
pub fn gemm(case: &Case, make: Make) -> Results {
    let (alpha, beta) = (float(case, "alpha", 1.0), float(case, "beta", 1.0));
    let (transpose_a, transpose_b) = (int(case, "transA", 0) != 0, int(case, "transB", 0) != 0);
    let scaled = |t: &Tensor, by: f64| tensor(&t.shape, t.data.iter().map(|x| x * by).collect());
    let mut a = scaled(&transposed(input(case, 0).clone(), transpose_a), alpha);
    let mut b = transposed(input(case, 1).clone(), transpose_b);
    let (m, n) = (a.shape[0], b.shape[1]);
    let c = optional(case, 2).map(|c| scaled(c, beta));
    let mut bias = None;
    if let Some(c) = c {
        let columns = c.shape.last().copied().unwrap_or(1);
        let spread = |i: usize| c.data[if c.data.len() == 1 { 0 } else { i % (m * columns) % c.data.len() }];
        if c.data.len() == 1 || c.data.len() == n && columns == n {
            bias = Some(tensor(&[n], (0..n).map(spread).collect()));
        } else {
            assert_eq!(c.shape, [m, n], "{}", case.name);
            let identity = (0..m * m).map(|i| f64::from(i % m == i / m)).collect();
            a = beside(&a, &tensor(&[m, m], identity));
            b.shape[0] += m;
            b.data.extend(c.data);
        }
    }
    let op = Op::MatMul { transpose_a, transpose_b };
    let (a, b) = (transposed(a, transpose_a), transposed(b, transpose_b));
    let a = if transpose_a { fixed(&a) } else { batch(&a) };
    let mut y = evaluate_one(make, op, &[a, fixed(&b)]);
    if let Some(bias) = bias {
        y = evaluate_one(make, Op::BiasAdd, &[batch(&tensor(&[m, n], y)), fixed(&bias)]);
    }
    Ok(vec![tensor(&[m, n], y)])
}

/// Element by element.
fn activation(case: &Case, make: Make, op: Op) -> Results {
    let x = input(case, 0);
    Ok(vec![tensor(&x.shape, evaluate_one(make, op, &[batch(x)]))])
}

pub fn relu(case: &Case, make: Make) -> Results {
    activation(case, make, Op::Relu)
}

pub fn leaky_relu(_: &Case, _: Make) -> Results {
    Err(Refusal::NotYetMapped("LeakyRelu"))
}

pub fn gelu(_: &Case, _: Make) -> Results {
    Err(Refusal::NotYetMapped("Gelu"))
}

pub fn sigmoid(_: &Case, _: Make) -> Results {
    Err(Refusal::NotYetMapped("Sigmoid"))
}

pub fn tanh(_: &Case, _: Make) -> Results {
    Err(Refusal::NotYetMapped("Tanh"))
}

pub fn softmax(_: &Case, _: Make) -> Results {
    Err(Refusal::NotYetMapped("Softmax"))
}

pub fn batch_normalization(_: &Case, _: Make) -> Results {
    Err(Refusal::NotYetMapped("BatchNormalization"))
}
