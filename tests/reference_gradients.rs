//! Compares the reference's gradient operations with central differences of the forward operations, in f64.
//! Batch norm is in tests/batch_norm.rs; gradients that `Graph::backward` composes of other operations are in
//! tests/backward.rs.
//!
//! Convolution, matrix multiplication and bias are linear in each operand. ReLU and max-pooling are piecewise
//! linear, and no step of the differences crosses a kink. For these, a central difference has no truncation
//! error: what remains is rounding, about 1e-15 of the largest gradient divided by the step. Smooth
//! operations have a truncation error proportional to the square of the step (step^2 / 6 for the softmax
//! cross-entropy).

use crate::support::executor::{Operand, Single, evaluate, evaluate_one, reference};
use crate::support::random::{convolution_shapes, elements, normal, spread, stream};
use frazil::low_level::Reference;
use frazil::low_level::Stream;
use frazil::low_level::{Activation, Conv2d, Dropout, Op, Pool2d, StepScalars};
use frazil::low_level::{Padding, Window};

/// Step of the central differences for linear and piecewise linear operations: a power of two, so that `x +
/// step` is nearly exact.
const LINEAR_STEP: f64 = 1.0 / 64.0;
const LINEAR_TOLERANCE: f64 = 1e-11;
const SMOOTH_STEP: f64 = 1.0 / 16384.0;
const SMOOTH_TOLERANCE: f64 = 1e-8;

/// Returns the gradient of `sum(result * weight)` with respect to `operands[which]` by central differences,
/// where `result` is the first result of `op`.
fn differences(op: &Op, operands: &[Operand], which: usize, weight: &[f64], step: f64) -> Vec<f64> {
    let single = Single::new(op.clone(), operands);
    let mut reference = Reference::new(&single.graph).unwrap();
    for (&input, operand) in single.inputs.iter().zip(operands) {
        reference.write(input, &operand.data).unwrap();
    }
    let mut moved = operands[which].data.clone();
    let mut objective = |data: &[f64]| {
        reference.write(single.inputs[which], data).unwrap();
        reference.run(StepScalars::forward(single.rows)).unwrap();
        let result = reference.read(single.outputs[0]);
        assert_eq!(result.len(), weight.len());
        result.iter().zip(weight).map(|(y, w)| y * w).sum::<f64>()
    };
    (0..moved.len())
        .map(|index| {
            let kept = moved[index];
            moved[index] = kept + step;
            let above = objective(&moved);
            moved[index] = kept - step;
            let below = objective(&moved);
            moved[index] = kept;
            (above - below) / (2.0 * step)
        })
        .collect()
}

/// Checks that two gradients agree within `tolerance`, relative to the largest element of `numeric`. Returns
/// the largest relative difference.
///
/// # Errors
/// Names the first element beyond the tolerance; NaN fails.
fn compare(what: &str, analytic: &[f64], numeric: &[f64], tolerance: f64) -> Result<f64, String> {
    assert_eq!(analytic.len(), numeric.len(), "{what}");
    let scale = numeric.iter().fold(0.0f64, |scale, x| scale.max(x.abs())).max(1e-3);
    let mut worst = 0.0;
    for (index, (a, n)) in analytic.iter().zip(numeric).enumerate() {
        let error = (a - n).abs() / scale;
        if error.is_nan() || error > tolerance {
            return Err(format!(
                "{what}: element {index}: expected {n:e} (central difference), got {a:e}; off by {error:.1e} of the \
                 largest element, expected at most {tolerance:.0e}"
            ));
        }
        worst = f64::max(worst, error);
    }
    Ok(worst)
}

fn assert_gradient(what: &str, analytic: &[f64], numeric: &[f64], tolerance: f64) {
    let worst = compare(what, analytic, numeric, tolerance).unwrap_or_else(|message| panic!("{message}"));
    println!("{what}: {worst:.1e}");
}

/// Compares the gradient of a piecewise linear operation with respect to one operand with central
/// differences.
fn check_linear(op: &Op, operands: &[Operand], which: usize, dy: &[f64], gradient: &[f64], what: &str) {
    let numeric = differences(op, operands, which, dy, LINEAR_STEP);
    assert_gradient(what, gradient, &numeric, LINEAR_TOLERANCE);
}

fn explicit(top: usize, bottom: usize, left: usize, right: usize) -> Padding {
    Padding::Explicit { top, bottom, left, right }
}

/// Returns test cases as (name, input shape `[h, w, c_in]`, output channels, groups, window).
fn convolutions() -> Vec<(&'static str, [usize; 3], usize, usize, Window)> {
    let k = |rows, columns| Window::new([rows, columns]);
    let same = Padding::Same;
    vec![
        ("1x1", [3, 4, 2], 3, 1, k(1, 1)),
        ("3x3 valid", [5, 4, 2], 3, 1, k(3, 3)),
        ("3x3 same", [4, 5, 2], 3, 1, Window { padding: same, ..k(3, 3) }),
        ("3x2 same, strides 2 and 1", [6, 5, 2], 2, 1, Window { padding: same, stride: [2, 1], ..k(3, 2) }),
        ("3x3 same, stride 2, odd padding at the end", [4, 6, 1], 2, 1, {
            Window { padding: same, stride: [2, 2], ..k(3, 3) }
        }),
        ("dilation 2 and 1", [6, 5, 2], 2, 1, Window { padding: same, dilation: [2, 1], ..k(3, 3) }),
        ("stride and dilation", [7, 7, 1], 2, 1, Window { stride: [2, 1], dilation: [1, 3], ..k(2, 3) }),
        ("2 groups", [4, 4, 4], 6, 2, Window { padding: same, ..k(3, 3) }),
        ("depthwise", [4, 5, 3], 3, 3, Window { padding: same, ..k(3, 3) }),
        ("depthwise, 2 outputs each", [4, 4, 3], 6, 3, Window { stride: [2, 2], ..k(2, 2) }),
        ("asymmetric padding", [4, 5, 2], 2, 1, Window { padding: explicit(2, 0, 1, 3), ..k(3, 2) }),
        ("padding beyond the kernel", [3, 3, 1], 2, 1, Window { padding: explicit(3, 3, 3, 3), ..k(2, 2) }),
        ("input smaller than the kernel", [2, 3, 2], 2, 1, Window { padding: same, ..k(5, 5) }),
        ("stride beyond the kernel", [7, 8, 2], 2, 1, Window { stride: [3, 3], ..k(2, 2) }),
        ("one row", [1, 7, 2], 2, 1, Window { padding: same, ..k(3, 3) }),
    ]
}

#[test]
fn conv2d() {
    for (number, (what, input, c_out, groups, window)) in convolutions().into_iter().enumerate() {
        let c = Conv2d::new(input, c_out, window, groups, what).unwrap();
        let shapes = convolution_shapes(&c, 2);
        let mut data = stream(number as u64);
        let [x, kernel, dy] = [0, 1, 2].map(|i| normal(&mut data, elements(&shapes[i])));
        let operands = [Operand::batch(&shapes[0], x), Operand::fixed(&shapes[1], kernel)];
        let dy_operand = Operand::batch(&shapes[2], dy.clone());
        let [x_operand, kernel_operand] = operands.clone();
        let dx = evaluate_one(&reference, Op::Conv2dGradInput(c), &[dy_operand.clone(), kernel_operand]);
        let dkernel = evaluate_one(&reference, Op::Conv2dGradKernel(c), &[x_operand, dy_operand]);
        check_linear(&Op::Conv2d(c), &operands, 0, &dy, &dx, &format!("conv2d {what}, input"));
        check_linear(&Op::Conv2d(c), &operands, 1, &dy, &dkernel, &format!("conv2d {what}, kernel"));
    }
}

/// Checks the gradients of matrix multiplication with and without transposed operands. They are matrix
/// multiplications themselves: for C = A B, dA = dC B' and dB = A' dC.
#[test]
fn matmul() {
    let matmul = |transpose_a, transpose_b| Op::MatMul { transpose_a, transpose_b };
    let (m, k, n) = (3, 4, 2);
    let stored = |rows, columns, transposed| if transposed { [columns, rows] } else { [rows, columns] };
    let mut data = stream(20);
    // All combinations that a graph accepts: which operands are transposed, and which have the batch as their
    // first axis.
    let legal = [
        ([false, false], [false, false]),
        ([false, true], [false, false]),
        ([true, false], [false, false]),
        ([true, true], [false, false]),
        ([false, false], [true, false]),
        ([false, true], [true, false]),
        ([true, false], [true, true]),
    ];
    for ([ta, tb], [batched_a, batched_b]) in legal {
        let operand = |shape: [usize; 2], batched, data| {
            if batched { Operand::batch(&shape, data) } else { Operand::fixed(&shape, data) }
        };
        let a = operand(stored(m, k, ta), batched_a, normal(&mut data, m * k));
        let b = operand(stored(k, n, tb), batched_b, normal(&mut data, k * n));
        let dc = normal(&mut data, m * n);
        // A batched operand may have fewer valid rows than its shape. Here all rows are valid, so the
        // gradients are computed with unbatched operands.
        let fixed = |o: &Operand| Operand { batched: false, ..o.clone() };
        let (a_fixed, b_fixed) = (fixed(&a), fixed(&b));
        let dc_operand = Operand::fixed(&[m, n], dc.clone());
        let da = if ta {
            evaluate_one(&reference, matmul(tb, true), &[b_fixed.clone(), dc_operand.clone()])
        } else {
            evaluate_one(&reference, matmul(false, !tb), &[dc_operand.clone(), b_fixed])
        };
        let db = if tb {
            evaluate_one(&reference, matmul(true, ta), &[dc_operand, a_fixed])
        } else {
            evaluate_one(&reference, matmul(!ta, false), &[a_fixed, dc_operand])
        };
        let operands = [a, b];
        let what = format!("matmul, transposes {ta} {tb}, batches {batched_a} {batched_b}");
        check_linear(&matmul(ta, tb), &operands, 0, &dc, &da, &format!("{what}, a"));
        check_linear(&matmul(ta, tb), &operands, 1, &dc, &db, &format!("{what}, b"));
    }
}

#[test]
fn bias() {
    let mut data = stream(30);
    let shape = [2, 3, 2, 5];
    let dy = normal(&mut data, 60);
    let operands =
        [Operand::batch(&shape, normal(&mut data, 60)), Operand::fixed(&[5], normal(&mut data, 5))];
    let dbias = evaluate_one(&reference, Op::BiasGrad, &[Operand::batch(&shape, dy.clone())]);
    check_linear(&Op::BiasAdd, &operands, 0, &dy, &dy, "bias_add, x");
    check_linear(&Op::BiasAdd, &operands, 1, &dy, &dbias, "bias_add, bias");
}

#[test]
fn relu() {
    let mut data = stream(40);
    let shape = [4, 15];
    // The elements nearest to 0 are +-0.05, about three steps away, so no central difference crosses the kink
    // of ReLU at 0.
    let x = Operand::batch(&shape, spread(&mut data, 60, 0.1));
    let dy = normal(&mut data, 60);
    let y = evaluate_one(&reference, Op::Relu, std::slice::from_ref(&x));
    let pair = [Operand::batch(&shape, y), Operand::batch(&shape, dy.clone())];
    let dx = evaluate_one(&reference, Op::ReluGrad, &pair);
    assert!(dx.contains(&0.0));
    check_linear(&Op::Relu, &[x], 0, &dy, &dx, "relu");
}

#[test]
fn activations() {
    let mut data = stream(45);
    let shape = [4, 15];
    let kinds = [
        Activation::LeakyRelu { slope: 0.3 },
        // The elements are spaced by 0.1 and the limit lies between two of them, so no central difference
        // crosses the kink of the clamp.
        Activation::Clamp { min: -1.2, max: 1.2 },
        Activation::Clamp { min: -0.4, max: 0.7 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu6,
        Activation::Silu,
        Activation::HardSigmoid,
        Activation::HardSwish,
        // No element of `spread` is near 0, where the derivative has a step.
        Activation::InversePower { exponent: 0.75 },
    ];
    for activation in kinds {
        let x = Operand::batch(&shape, spread(&mut data, 60, 0.1));
        let dy = normal(&mut data, 60);
        let pair = [x.clone(), Operand::batch(&shape, dy.clone())];
        let dx = evaluate_one(&reference, Op::ActivationGrad(activation), &pair);
        let numeric = differences(&Op::Activation(activation), &[x], 0, &dy, SMOOTH_STEP);
        assert_gradient(&format!("{activation:?}"), &dx, &numeric, SMOOTH_TOLERANCE);
    }
}

#[test]
fn softmax() {
    let mut data = stream(46);
    for (rows, classes) in [(1, 1), (4, 5), (3, 10)] {
        let shape = [rows, classes];
        let x = Operand::batch(&shape, normal(&mut data, rows * classes));
        let dy = normal(&mut data, rows * classes);
        let y = evaluate_one(&reference, Op::Softmax, std::slice::from_ref(&x));
        let pair = [Operand::batch(&shape, y), Operand::batch(&shape, dy.clone())];
        let dx = evaluate_one(&reference, Op::SoftmaxGrad, &pair);
        let numeric = differences(&Op::Softmax, &[x], 0, &dy, SMOOTH_STEP);
        assert_gradient(&format!("softmax {rows}x{classes}"), &dx, &numeric, SMOOTH_TOLERANCE);
    }
}

#[test]
fn dropout() {
    let mut data = stream(47);
    for (rate, layer) in [(0.2, 0), (0.5, 3)] {
        let op = Op::Dropout(Dropout { rate, layer });
        let x = Operand::batch(&[4, 15], normal(&mut data, 60));
        let dy = normal(&mut data, 60);
        let dx = evaluate_one(&reference, op.clone(), &[Operand::batch(&[4, 15], dy.clone())]);
        check_linear(&op, &[x], 0, &dy, &dx, &format!("dropout {rate}"));
    }
}

#[test]
fn pooling() {
    let cases = [
        ("2x2 stride 2", Window { stride: [2, 2], ..Window::new([2, 2]) }),
        ("overlapping 3x3", Window::new([3, 3])),
        (
            "same, overlapping, padded",
            Window { stride: [2, 2], padding: Padding::Same, ..Window::new([3, 3]) },
        ),
        ("asymmetric padding", Window { padding: explicit(2, 1, 0, 1), ..Window::new([3, 2]) }),
        ("dilated", Window { dilation: [2, 1], padding: Padding::Same, ..Window::new([3, 3]) }),
        ("gaps between windows", Window { stride: [3, 3], ..Window::new([2, 2]) }),
    ];
    let mut data = stream(50);
    for (what, window) in cases {
        let (batch, input, channels) = (2, [6, 5], 3);
        let p = Pool2d { window: window.on(input, what).unwrap(), channels };
        let x_shape = [batch, input[0], input[1], channels];
        let y_shape = [batch, p.window.output[0], p.window.output[1], channels];
        // Elements differ by at least 0.1, so changing one by a step does not change which element is the
        // maximum.
        let x = Operand::batch(&x_shape, spread(&mut data, elements(&x_shape), 0.1));
        let dy = normal(&mut data, elements(&y_shape));
        let position = evaluate(&reference, Op::MaxPool2d(p), std::slice::from_ref(&x)).swap_remove(1);
        let operands = [Operand::integers(&y_shape, position), Operand::batch(&y_shape, dy.clone())];
        let dx = evaluate_one(&reference, Op::MaxPool2dGrad(p), &operands);
        check_linear(&Op::MaxPool2d(p), std::slice::from_ref(&x), 0, &dy, &dx, &format!("max_pool2d {what}"));
        let operand = Operand::batch(&y_shape, dy.clone());
        let dx = evaluate_one(&reference, Op::AvgPool2dGrad(p), &[operand]);
        check_linear(&Op::AvgPool2d(p), &[x], 0, &dy, &dx, &format!("avg_pool2d {what}"));
    }
}

#[test]
fn global_avg_pool() {
    let mut data = stream(55);
    for [h, w, c] in [[1, 1, 3], [3, 5, 2], [4, 4, 1]] {
        let x = Operand::batch(&[2, h, w, c], normal(&mut data, 2 * h * w * c));
        let dy = normal(&mut data, 2 * c);
        let operands = [Operand::batch(&[2, c], dy.clone())];
        let dx = evaluate_one(&reference, Op::GlobalAvgPoolGrad([h, w]), &operands);
        check_linear(&Op::GlobalAvgPool, &[x], 0, &dy, &dx, &format!("global_avg_pool {h}x{w}x{c}"));
    }
}

fn labels(data: &mut Stream, rows: usize, classes: usize) -> Operand {
    Operand::integers(&[rows], (0..rows).map(|_| data.below(classes) as f64).collect())
}

#[test]
fn softmax_cross_entropy() {
    let mut data = stream(60);
    for (rows, classes, scale) in [(1, 1, 1.0), (4, 5, 1.0), (3, 10, 5.0), (2, 3, 100.0)] {
        let logits = normal(&mut data, rows * classes).into_iter().map(|x| x * scale).collect();
        let operands = [Operand::batch(&[rows, classes], logits), labels(&mut data, rows, classes)];
        let smoothing = 0.0;
        let gradient = evaluate_one(&reference, Op::SoftmaxCrossEntropyGrad { smoothing }, &operands);
        // The gradient operation differentiates the mean loss, so each row has the weight 1 / rows.
        let weight = vec![1.0 / rows as f64; rows];
        let numeric = differences(&Op::SoftmaxCrossEntropy { smoothing }, &operands, 0, &weight, SMOOTH_STEP);
        let what = format!("softmax_cross_entropy, {rows} rows, {classes} classes, scale {scale}");
        assert_gradient(&what, &gradient, &numeric, SMOOTH_TOLERANCE);
    }
}

/// Checks cross-entropy with label smoothing and class weights. With class weights, the mean loss is the sum
/// of the losses divided by the sum of the weights of the labels, as `Op::Metrics` computes it.
#[test]
fn smoothed_and_weighted_cross_entropy() {
    let mut data = stream(61);
    for (rows, classes, smoothing, weighted) in
        [(4, 5, 0.1, false), (3, 10, 0.0, true), (5, 4, 0.3, true), (2, 3, 1.0, false)]
    {
        let mut operands = vec![
            Operand::batch(&[rows, classes], normal(&mut data, rows * classes)),
            labels(&mut data, rows, classes),
        ];
        let weights: Vec<f64> = normal(&mut data, classes).into_iter().map(|w| w.abs() + 0.25).collect();
        let of_row = |label: &f64| if weighted { weights[*label as usize] } else { 1.0 };
        let divisor: f64 = operands[1].data.iter().map(of_row).sum();
        if weighted {
            operands.push(Operand::fixed(&[classes], weights));
        }
        let gradient = evaluate_one(&reference, Op::SoftmaxCrossEntropyGrad { smoothing }, &operands);
        let op = Op::SoftmaxCrossEntropy { smoothing };
        let numeric = differences(&op, &operands, 0, &vec![1.0 / divisor; rows], SMOOTH_STEP);
        let what = format!("{rows} rows, {classes} classes, smoothing {smoothing}, weighted {weighted}");
        assert_gradient(&what, &gradient, &numeric, SMOOTH_TOLERANCE);
        let losses = evaluate_one(&reference, op, &operands);
        let mean = losses.iter().sum::<f64>() / divisor;
        operands.insert(0, Operand::batch(&[rows], losses));
        assert!((evaluate_one(&reference, Op::Metrics, &operands)[0] - mean).abs() < 1e-14);
    }
}

#[test]
fn mean_squared_error() {
    let mut data = stream(62);
    for shape in [vec![3, 4], vec![2, 3, 2, 2], vec![5]] {
        let count = elements(&shape);
        let operands = [0, 1].map(|_| Operand::batch(&shape, normal(&mut data, count)));
        let gradient = evaluate_one(&reference, Op::MeanSquaredErrorGrad, &operands);
        let weight = vec![1.0 / shape[0] as f64; shape[0]];
        let numeric = differences(&Op::MeanSquaredError, &operands, 0, &weight, SMOOTH_STEP);
        assert_gradient(&format!("mean_squared_error {shape:?}"), &gradient, &numeric, SMOOTH_TOLERANCE);
    }
}

#[test]
fn comparison_fails_on_one_wrong_element() {
    let mut data = stream(70);
    let numeric = normal(&mut data, 100);
    assert_eq!(compare("same", &numeric, &numeric, 0.0), Ok(0.0));
    for wrong in [numeric[37] + 1e-6, 0.0, f64::NAN] {
        let mut altered = numeric.clone();
        altered[37] = wrong;
        let message = compare("altered", &altered, &numeric, SMOOTH_TOLERANCE).unwrap_err();
        assert!(message.contains("element 37"), "{message}");
    }
}
