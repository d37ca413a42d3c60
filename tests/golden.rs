//! Compares the CPU reference, and the device in every GEMM family, with the golden vectors, which other
//! libraries computed in f64 (tests/golden/README.md).

use crate::support::compare::{assert_equal, assert_relative};
use crate::support::device::{Device, device, device_with, families, gpu};
use crate::support::executor::{Executor, Fault, Faulty, Make, Operand, evaluate, evaluate_one, reference};
use crate::support::golden::{Case, cases, conv2d_case, generated, pool2d_case, sampled};
use crate::support::random::{convolution_shapes, elements};
use crate::support::trajectory::{
    Errors, check_trajectory, counts_element_steps, net, update_rounding, update_rule,
};
use frazil::conformance::compare;
use frazil::layer::Upsampling;
use frazil::low_level::GemmFamily;
use frazil::low_level::{Activation, DType, ElementLoss, Graph, Normalization, Op, Padding, Resample2d};
use frazil::low_level::{Algorithm, Winograd};
use frazil::low_level::{Plan, PlanOptions, StepScalars};
use frazil::model::ModelBuilder;
use frazil::{Loss, Model};

/// Relative tolerance for the CPU reference: it and the golden libraries sum up to 1,000 terms in f64, in
/// different orders.
const TOLERANCE: f64 = 1e-13;

/// Relative tolerance for the device, in f32. tests/golden/README.md suggests 1e-5, and PyTorch's kernels
/// reach 1.3e-6.
const DEVICE_TOLERANCE: f64 = 2e-6;

/// Runs a check on the CPU reference, and on the device in every GEMM family that it supports.
fn everywhere(check: impl Fn(Make, f64)) {
    check(&reference, TOLERANCE);
    for family in families() {
        println!("on the device, gemm family {family}:");
        check(&|graph: &Graph| device(graph, family), DEVICE_TOLERANCE);
    }
}

/// Compares named results with those of a golden case and returns the largest relative error.
fn assert_results(case: &Case, results: &[(&str, Vec<f64>)], tolerance: f64) -> f64 {
    let check = |(name, got): &(&str, Vec<f64>)| {
        let want = case.f64(&format!("{name}_f64"));
        assert_relative(&format!("{} {name}", case.name), got, &want, tolerance)
    };
    results.iter().map(check).fold(0.0, f64::max)
}

fn batch(case: &Case, name: &str) -> Operand {
    Operand::batch(case.shape(name), case.wide(name))
}

fn fixed(case: &Case, name: &str) -> Operand {
    Operand::fixed(case.shape(name), case.wide(name))
}

/// Prints how many cases of a set ran. [`cases`] checks that none is missing.
fn report(set: &str, ran: usize, worst: f64) {
    println!("{set}: {ran} golden cases, worst relative L2 error {worst:.1e}");
}

#[test]
fn conv2d() {
    everywhere(|make, tolerance| {
        let mut worst = 0.0f64;
        let all = cases("conv2d");
        for case in &all {
            let (c, n) = conv2d_case(case);
            assert_eq!(case.shape("input")[0], n);
            let (x, kernel, dy) = (batch(case, "input"), fixed(case, "filter"), batch(case, "grad_output"));
            let y = evaluate_one(make, Op::Conv2d(c), &[x.clone(), kernel.clone()]);
            let y = Operand::batch(case.shape("output"), y);
            let results = [
                ("output", evaluate_one(make, Op::BiasAdd, &[y, fixed(case, "bias")])),
                ("grad_input", evaluate_one(make, Op::Conv2dGradInput(c), &[dy.clone(), kernel])),
                ("grad_filter", evaluate_one(make, Op::Conv2dGradKernel(c), &[x, dy.clone()])),
                ("grad_bias", evaluate_one(make, Op::BiasGrad, &[dy])),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("conv2d", all.len(), worst);
    });
}

#[test]
fn dense() {
    everywhere(|make, tolerance| {
        let mut worst = 0.0f64;
        let all = cases("dense");
        let matmul = |transpose_a, transpose_b| Op::MatMul { transpose_a, transpose_b };
        for case in &all {
            let (x, kernel, dy) = (batch(case, "input"), fixed(case, "kernel"), batch(case, "grad_output"));
            let y = evaluate_one(make, matmul(false, false), &[x.clone(), kernel.clone()]);
            let y = Operand::batch(case.shape("output"), y);
            let results = [
                ("output", evaluate_one(make, Op::BiasAdd, &[y, fixed(case, "bias")])),
                ("grad_input", evaluate_one(make, matmul(false, true), &[dy.clone(), kernel])),
                ("grad_kernel", evaluate_one(make, matmul(true, false), &[x, dy.clone()])),
                ("grad_bias", evaluate_one(make, Op::BiasGrad, &[dy])),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("dense", all.len(), worst);
    });
}

#[test]
fn relu() {
    everywhere(|make, _| {
        let all = cases("relu");
        for case in &all {
            let y = evaluate_one(make, Op::Relu, &[batch(case, "input")]);
            assert_equal(&case.name, &y, &case.f64("output_f64"));
            let pair = [Operand::batch(case.shape("output"), y), batch(case, "grad_output")];
            let dx = evaluate_one(make, Op::ReluGrad, &pair);
            assert_equal(&case.name, &dx, &case.f64("grad_input_f64"));
        }
        report("relu", all.len(), 0.0);
    });
}

#[test]
fn activations() {
    everywhere(|make, tolerance| {
        let all = cases("activations");
        let mut worst = 0.0f64;
        for case in &all {
            let activation = match case.params["activation"].as_str() {
                Some("leaky_relu") => Activation::LeakyRelu { slope: case.params["slope"].as_f64().unwrap() },
                Some("gelu") if case.params["approximate"] == "none" => Activation::Gelu,
                Some("gelu") => Activation::GeluTanh,
                Some("silu") => Activation::Silu,
                Some("relu6") => Activation::Relu6,
                Some("hard_sigmoid") => Activation::HardSigmoid,
                Some("hard_swish") => Activation::HardSwish,
                Some("inverse_power") => {
                    Activation::InversePower { exponent: case.params["exponent"].as_f64().unwrap() }
                }
                other => panic!("{}: activation {other:?}", case.name),
            };
            let x = batch(case, "input");
            let y = evaluate_one(make, Op::Activation(activation), std::slice::from_ref(&x));
            let dx = evaluate_one(make, Op::ActivationGrad(activation), &[x, batch(case, "grad_output")]);
            for (name, got) in [("output_f64", y), ("grad_input_f64", dx)] {
                worst = worst.max(assert_relative(
                    &format!("{} {name}", case.name),
                    &got,
                    &case.f64(name),
                    tolerance,
                ));
            }
        }
        report("activations", all.len(), worst);
    });
}

#[test]
fn avg_pool2d() {
    everywhere(|make, tolerance| {
        let all = cases("avg_pool2d");
        let mut worst = 0.0f64;
        for case in &all {
            let (p, n) = pool2d_case(case, "avg");
            assert_eq!(case.shape("input")[0], n);
            let results = [
                ("output", evaluate_one(make, Op::AvgPool2d(p), &[batch(case, "input")])),
                ("grad_input", evaluate_one(make, Op::AvgPool2dGrad(p), &[batch(case, "grad_output")])),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("avg_pool2d", all.len(), worst);
    });
}

#[test]
fn max_pool2d() {
    everywhere(|make, tolerance| {
        let all = cases("max_pool2d");
        let mut worst = 0.0f64;
        for case in &all {
            let (p, n) = pool2d_case(case, "max");
            assert_eq!(case.shape("input")[0], n);
            let pooled = evaluate(make, Op::MaxPool2d(p), &[batch(case, "input")]);
            assert_equal(&case.name, &pooled[0], &case.f64("output_f64"));
            let position = Operand::integers(case.shape("output"), pooled[1].clone());
            let dx = evaluate_one(make, Op::MaxPool2dGrad(p), &[position, batch(case, "grad_output")]);
            // The input gradients of overlapping windows are sums, in another order than in the golden data,
            // so they are compared with a tolerance.
            worst = worst.max(assert_results(case, &[("grad_input", dx)], tolerance));
        }
        report("max_pool2d", all.len(), worst);
    });
}

#[test]
fn global_avg_pool() {
    everywhere(|make, tolerance| {
        let mut worst = 0.0f64;
        let all = cases("global_avg_pool");
        for case in &all {
            let pixels = [case.shape("input")[1], case.shape("input")[2]];
            let dy = [batch(case, "grad_output")];
            let results = [
                ("output", evaluate_one(make, Op::GlobalAvgPool, &[batch(case, "input")])),
                ("grad_input", evaluate_one(make, Op::GlobalAvgPoolGrad(pixels), &dy)),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("global_avg_pool", all.len(), worst);
    });
}

#[test]
fn local_response_norm() {
    everywhere(|make, tolerance| {
        let all = cases("local_response_norm");
        let mut worst = 0.0f64;
        for case in &all {
            let number = |name: &str| case.params[name].as_f64().unwrap();
            let shape = case.shape("input");
            let model = Model::input(shape[1..].to_vec())
                .local_response_norm(number("size") as usize, |n| {
                    n.alpha(number("alpha")).beta(number("beta")).k(number("k"))
                })
                .build()
                .unwrap();
            let mut built = model.evaluation_graph(shape[0], Loss::MeanSquaredError).unwrap();
            let dy = built.graph.batch_input("dy", &shape[1..], DType::F32).unwrap();
            let dx = built.graph.backward_from(built.logits, dy, &[built.input]).unwrap()[0];
            built.graph.mark_output(built.logits).unwrap();
            built.graph.mark_output(dx).unwrap();
            let mut executor = make(&built.graph);
            executor.write(built.input, &case.wide("input")).unwrap();
            executor.write(built.labels, &vec![0.0; case.wide("input").len()]).unwrap();
            executor.write(dy, &case.wide("grad_output")).unwrap();
            executor.run(StepScalars::forward(shape[0])).unwrap();
            let results = [("output", executor.read(built.logits)), ("grad_input", executor.read(dx))];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("local_response_norm", all.len(), worst);
    });
}

/// Returns the first operation of a layer that `append` appends to images of a case.
fn first_operation(case: &Case, append: impl FnOnce(ModelBuilder) -> ModelBuilder) -> Op {
    let model = append(Model::input(case.shape("input")[1..].to_vec())).build().unwrap();
    assert_eq!(model.output(), &case.shape("grad_output")[1..], "{}", case.name);
    let graph = model.evaluation_graph(case.shape("input")[0], Loss::MeanSquaredError).unwrap().graph;
    graph.nodes()[0].op.clone()
}

/// The numbers of a list of the parameters; `None` if there is none.
fn sizes(case: &Case, name: &str) -> Option<Vec<usize>> {
    let list = case.params[name].as_array()?;
    Some(list.iter().map(|n| n.as_u64().unwrap() as usize).collect())
}

#[test]
fn resampling() {
    let operation = |case: &Case| {
        let pair = |name: &str| sizes(case, name).map(|list| [list[0], list[1]]);
        let number = |name: &str| case.params[name].as_u64().unwrap() as usize;
        let upsampling = match case.params["upsampling"].as_str() {
            Some("nearest") => Some(Upsampling::Nearest),
            Some("bilinear") => Some(Upsampling::Bilinear),
            Some("corners") => Some(Upsampling::BilinearCorners),
            other => {
                assert_eq!(other, None);
                None
            }
        };
        first_operation(case, |images| match (upsampling, pair("size"), pair("adaptive")) {
            (Some(how), Some(size), _) => images.upsample_to(how, size),
            (Some(how), None, _) => {
                let scale = [0, 1].map(|axis| case.params["scale"][axis].as_f64().unwrap());
                images.upsample(how, scale)
            }
            (None, _, Some(size)) => images.adaptive_avg_pool2d(size),
            (None, ..) => images.avg_pool2d_with([number("kernel"); 2], |p| {
                let (begin, end) = (number("begin"), number("end"));
                let padding = Padding::Explicit { top: begin, bottom: end, left: begin, right: end };
                let p = p.stride([number("stride"); 2]).padding(padding).count_padding(true);
                p.round_up(case.params["round_up"].as_bool().unwrap())
            }),
        })
    };
    everywhere(|make, tolerance| {
        let all = cases("resample");
        let mut worst = 0.0f64;
        for case in &all {
            let op = operation(case);
            let Op::Resample2d(r) = op else { panic!("{}: {op:?}", case.name) };
            let adjoint = Op::Resample2d(Resample2d { adjoint: true, ..r });
            let results = [
                ("output", evaluate_one(make, op, &[batch(case, "input")])),
                ("grad_input", evaluate_one(make, adjoint, &[batch(case, "grad_output")])),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("resample", all.len(), worst);
    });
}

#[test]
fn conv_transpose() {
    let operation = |case: &Case| {
        let list = |name: &str| sizes(case, name).unwrap();
        let pair = |name: &str| [list(name)[0], list(name)[1]];
        let [.., kh, kw] = *case.shape("kernel") else { panic!("{}: a kernel", case.name) };
        let [top, bottom, left, right] = list("padding").try_into().unwrap();
        let outputs = case.shape("bias")[0];
        first_operation(case, |images| {
            images.conv_transpose2d("up", outputs, [kh, kw], |c| {
                let c = c
                    .stride(pair("stride"))
                    .dilation(pair("dilation"))
                    .output_padding(pair("output_padding"));
                let padding = Padding::Explicit { top, bottom, left, right };
                c.padding(padding).groups(case.params["groups"].as_u64().unwrap() as usize)
            })
        })
    };
    everywhere(|make, tolerance| {
        let all = cases("conv_transpose");
        let mut worst = 0.0f64;
        for case in &all {
            let op = operation(case);
            let Op::Conv2dGradInput(c) = op else { panic!("{}: {op:?}", case.name) };
            // From PyTorch's [c_in, c_out / groups, kh, kw].
            let [inputs, outputs, kh, kw] = *case.shape("kernel") else { panic!("{}: a kernel", case.name) };
            let torch = |kernel: &[f64]| -> Vec<f64> {
                let at = |i: usize| {
                    let (tap, output, input) = (i / (inputs * outputs), i / inputs % outputs, i % inputs);
                    (input * outputs + output) * kh * kw + tap
                };
                (0..kernel.len()).map(|i| kernel[at(i)]).collect()
            };
            let kernel = Operand::fixed(&[kh, kw, outputs, inputs], torch(&case.wide("kernel")));
            let (x, dy) = (batch(case, "input"), batch(case, "grad_output"));
            let y = evaluate_one(make, op, &[x.clone(), kernel.clone()]);
            let y = Operand::batch(case.shape("grad_output"), y);
            let results = [
                ("output", evaluate_one(make, Op::BiasAdd, &[y, fixed(case, "bias")])),
                ("grad_input", evaluate_one(make, Op::Conv2d(c), &[dy.clone(), kernel])),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
            let got = evaluate_one(make, Op::Conv2dGradKernel(c), &[dy, x]);
            let want = torch(&case.f64("grad_kernel_f64"));
            worst = worst.max(assert_relative(&format!("{} grad_kernel", case.name), &got, &want, tolerance));
        }
        report("conv_transpose", all.len(), worst);
    });
}

#[test]
fn softmax_cross_entropy() {
    everywhere(|make, tolerance| {
        let mut worst = 0.0f64;
        let all = cases("softmax_cross_entropy");
        for case in &all {
            let labels = Operand::integers(case.shape("labels"), case.wide("labels"));
            let operands = [batch(case, "logits"), labels];
            let losses = evaluate_one(make, Op::SoftmaxCrossEntropy { smoothing: 0.0 }, &operands);
            let [logits, labels] = operands.clone();
            let loss = Operand::batch(&[losses.len()], losses);
            let results = [
                ("loss", evaluate_one(make, Op::Metrics, &[loss, logits, labels])),
                (
                    "grad_logits",
                    evaluate_one(make, Op::SoftmaxCrossEntropyGrad { smoothing: 0.0 }, &operands),
                ),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("softmax_cross_entropy", all.len(), worst);
    });
}

#[test]
fn mean_squared_error() {
    everywhere(|make, tolerance| {
        let mut worst = 0.0f64;
        let all = cases("mse");
        for case in &all {
            let operands = [batch(case, "prediction"), batch(case, "target")];
            let losses = evaluate_one(make, Op::MeanSquaredError, &operands);
            let loss = Operand::batch(&[losses.len()], losses);
            let results = [
                ("loss", evaluate_one(make, Op::Metrics, &[loss])),
                ("grad_prediction", evaluate_one(make, Op::MeanSquaredErrorGrad, &operands)),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("mse", all.len(), worst);
    });
}

#[test]
fn element_losses() {
    everywhere(|make, tolerance| {
        let mut worst = 0.0f64;
        let all = cases("element_loss");
        for case in &all {
            let number = |name: &str| case.params[name].as_f64().unwrap();
            let of = match case.params["loss"].as_str().unwrap() {
                "l1" => ElementLoss::Huber { threshold: 0.0, slope: 1.0 },
                "huber" => ElementLoss::Huber { threshold: number("delta"), slope: number("delta") },
                "smooth_l1" => ElementLoss::Huber { threshold: number("beta"), slope: 1.0 },
                _ => ElementLoss::BinaryCrossEntropy { positive_weight: number("positive_weight") },
            };
            let operands = [batch(case, "prediction"), batch(case, "target")];
            let losses = evaluate_one(make, Op::ElementLoss(of), &operands);
            let loss = Operand::batch(&[losses.len()], losses);
            let results = [
                ("loss", evaluate_one(make, Op::Metrics, &[loss])),
                ("grad_prediction", evaluate_one(make, Op::ElementLossGrad(of), &operands)),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("element_loss", all.len(), worst);
    });
}

#[test]
fn soft_cross_entropy() {
    everywhere(|make, tolerance| {
        let mut worst = 0.0f64;
        let all = cases("soft_cross_entropy");
        for case in &all {
            let operands = [batch(case, "logits"), batch(case, "targets")];
            let losses = evaluate_one(make, Op::SoftCrossEntropy, &operands);
            let loss = Operand::batch(&[losses.len()], losses);
            let results = [
                ("loss", evaluate_one(make, Op::Metrics, &[loss])),
                ("grad_logits", evaluate_one(make, Op::SoftCrossEntropyGrad, &operands)),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("soft_cross_entropy", all.len(), worst);
    });
}

#[test]
fn log_softmax() {
    everywhere(|make, tolerance| {
        let mut worst = 0.0f64;
        let all = cases("log_softmax");
        for case in &all {
            let y = evaluate_one(make, Op::LogSoftmax, &[batch(case, "input")]);
            let pair = [Operand::batch(case.shape("input"), y.clone()), batch(case, "grad_output")];
            let dx = evaluate_one(make, Op::LogSoftmaxGrad, &pair);
            worst = worst.max(assert_results(case, &[("output", y), ("grad_input", dx)], tolerance));
        }
        report("log_softmax", all.len(), worst);
    });
}

/// Group, layer and instance norms as the layers compute them: normalization, scale and shift.
#[test]
fn example_norm() {
    everywhere(|make, tolerance| {
        let mut worst = 0.0f64;
        let all = cases("example_norm");
        for case in &all {
            let groups = case.params["groups"].as_u64().unwrap() as usize;
            let each_position = case.params["each_position"].as_bool().unwrap();
            let epsilon = case.params["epsilon"].as_f64().unwrap();
            let of = Normalization { groups, each_position, epsilon };
            let shape = case.shape("input");
            let values = |data: Vec<f64>| Operand::batch(shape, data);
            let [normal, inv_std]: [Vec<f64>; 2] =
                evaluate(make, Op::Normalize(of), &[batch(case, "input")]).try_into().unwrap();
            let inv_std = Operand::batch(&[shape[0], inv_std.len() / shape[0]], inv_std);
            let normal = values(normal);
            let (scale, dy) = (fixed(case, "scale"), batch(case, "grad_output"));
            let scaled = evaluate_one(make, Op::MulChannels, &[normal.clone(), scale.clone()]);
            let dnormal = values(evaluate_one(make, Op::MulChannels, &[dy.clone(), scale]));
            let products = values(evaluate_one(make, Op::Mul, &[dy.clone(), normal.clone()]));
            let results = [
                ("output", evaluate_one(make, Op::BiasAdd, &[values(scaled), fixed(case, "shift")])),
                ("grad_input", evaluate_one(make, Op::NormalizeGrad(of), &[normal, inv_std, dnormal])),
                ("grad_scale", evaluate_one(make, Op::BiasGrad, &[products])),
                ("grad_shift", evaluate_one(make, Op::BiasGrad, &[dy])),
            ];
            worst = worst.max(assert_results(case, &results, tolerance));
        }
        report("example_norm", all.len(), worst);
    });
}

/// One pass of a convolution (forward, input gradient or weight gradient): the name of its result, the
/// operation and its operands. The golden file contains only a sample of the result's elements.
type Pass = (&'static str, Op, [Operand; 2]);

fn sampled_passes(case: &Case) -> [Pass; 3] {
    let (c, n) = conv2d_case(case);
    let [x, kernel, dy] = convolution_shapes(&c, n);
    let x = Operand::batch(&x, generated(case, "input", elements(&x)));
    let kernel = Operand::fixed(&kernel, generated(case, "filter", elements(&kernel)));
    let dy = Operand::batch(&dy, generated(case, "grad_output", elements(&dy)));
    [
        ("output", Op::Conv2d(c), [x.clone(), kernel.clone()]),
        ("grad_input", Op::Conv2dGradInput(c), [dy.clone(), kernel]),
        ("grad_filter", Op::Conv2dGradKernel(c), [x, dy]),
    ]
}

/// Compares the sampled elements of a result with the golden ones, each within the absolute error `bound`.
/// Returns the largest error as a fraction of `bound`.
fn check_sampled(case: &Case, name: &str, result: &[f64], bound: f64) -> Result<f64, String> {
    let want = case.f64(&format!("{name}_f64"));
    let got = sampled(case, name, result);
    compare(&format!("{} {name}", case.name), &got, &want, &vec![bound; want.len()])
}

/// Compiles a plan in a GEMM family, and panics unless every convolution uses Winograd (if `transformed`) or
/// none does.
fn convolution_plan(graph: &Graph, family: GemmFamily, transformed: bool) -> Box<dyn Executor> {
    let when = match transformed {
        // On software adapters `Auto` also tests that the cost model chooses Winograd for these sizes; on
        // other adapters it never does.
        true if gpu().report().software => Winograd::Auto,
        true => Winograd::Always,
        false => Winograd::Never,
    };
    let options = PlanOptions::default().family(family).winograd(when);
    let plan = Plan::compile(gpu(), graph, &options).unwrap();
    for dispatch in &plan.report().dispatches {
        let winograd = dispatch.algorithm == Some(Algorithm::Winograd);
        assert_eq!(winograd, transformed, "{family}: {dispatch:?}");
    }
    Box::new(Device(plan))
}

/// Direct convolutions (without Winograd) equal the golden sums exactly. Operands are multiples of 1/64 below
/// 1, so every sum is a multiple of 2^-12. It has fewer than 4,230 terms of at most 63 * 63 / 2^12, so it
/// stays below 2^12. Such a sum needs at most 24 bits and is exact in f32 and f64 in any order.
#[test]
fn direct_convolutions_equal_the_sampled_golden_sums() {
    for case in &cases("conv2d_sampled") {
        for (name, op, operands) in sampled_passes(case) {
            let want = case.f64(&format!("{name}_f64"));
            let got = evaluate_one(&reference, op.clone(), &operands);
            assert_equal(&format!("{} {name}, reference", case.name), &sampled(case, name, &got), &want);
            for family in families() {
                let make = |graph: &Graph| convolution_plan(graph, family, false);
                let got = evaluate_one(&make, op.clone(), &operands);
                assert_equal(&format!("{} {name}, {family}", case.name), &sampled(case, name, &got), &want);
            }
        }
    }
}

/// Returns the absolute error allowed for Winograd: four times the largest error on llvmpipe (4.7e-4 for 3x3
/// kernels, 1.9e-3 for 5x5 kernels, both in weight gradients). This is far below the smallest product of two
/// operands, 1/4, so a missing product is detected.
fn winograd_bound(case: &Case) -> f64 {
    match case.params["kernel"][0].as_u64() {
        Some(3) => 2e-3,
        Some(5) => 8e-3,
        other => panic!("{}: expected a kernel of 3 or 5 rows, got {other:?}", case.name),
    }
}

#[test]
fn winograd_convolutions_match_the_sampled_golden_sums() {
    for case in &cases("conv2d_sampled") {
        let bound = winograd_bound(case);
        for (name, op, operands) in sampled_passes(case) {
            for family in families() {
                let make = |graph: &Graph| convolution_plan(graph, family, true);
                let got = evaluate_one(&make, op.clone(), &operands);
                let error =
                    check_sampled(case, name, &got, bound).unwrap_or_else(|message| panic!("{message}"));
                println!("{} {name}, {family}: largest error {:.1e}", case.name, error * bound);
            }
        }
    }
}

/// The comparison with `winograd_bound` fails if one product is missing. Setting one element of an operand to
/// 0 removes one product of at least 1/4 from each sum that the element contributes to.
#[test]
fn sampled_comparison_fails_on_a_missing_product() {
    for case in &cases("conv2d_sampled") {
        for (name, op, mut operands) in sampled_passes(case) {
            let make = |graph: &Graph| convolution_plan(graph, GemmFamily::Register, true);
            // An element away from the border contributes to 9 or 25 results (one per kernel element) in each
            // of at least 32 channels: more than 300 results. The golden file contains at least every 29th of
            // them.
            let middle = operands[0].data.len() / 2;
            operands[0].data[middle] = 0.0;
            let got = evaluate_one(&make, op, &operands);
            check_sampled(case, name, &got, winograd_bound(case)).unwrap_err();
        }
    }
}

/// Returns the tolerances for a training run (trajectory) on the CPU reference.
///
/// Weights: the reference computes in f64, except that the learning rate and Adam's bias corrections are f32.
/// An update is proportional to the learning rate and, for Adam with a small epsilon, to `sqrt(correction2) /
/// correction1`. The relative error of an update is therefore at most the value that [`update_rounding`]
/// computes from the actual roundings. The error of a weight is at most this fraction of its path length (the
/// sum of the norms of all updates), plus the effect of the changed weights on later gradients. The factor of
/// 2 covers this effect: in the 27 golden cases, it is at most half of the error of the roundings themselves.
///
/// State, loss and gradients are not rounded to f32. Their errors result from those of the weights, by
/// factors that depend on the network; the tolerances are three times the largest errors of the 27 golden
/// cases. Where the weights do not change (`weights` and `early_weights`, without updates), the tolerance is
/// 1e-12, to which the libraries of the golden data agree.
fn reference_tolerance(case: &Case) -> Errors {
    Errors {
        early_weights: 1e-12,
        weights: 1e-12,
        updates: 2.0 * update_rounding(case),
        state: 2e-7,
        second_moment: 5e-8,
        loss: 1.2e-7,
        gradient: TOLERANCE,
    }
}

/// Tolerances for a training run on the device, in f32, as tests/golden/README.md suggests. Errors on
/// llvmpipe are below 3e-7 for early weights, 2e-6 for weights, 6e-6 for state, and 4e-7 for the loss.
const DEVICE_TRAJECTORY: Errors = Errors {
    early_weights: 1e-5,
    weights: 5e-5,
    updates: 0.0,
    state: 1e-4,
    second_moment: 1e-4,
    loss: 1e-4,
    gradient: DEVICE_TOLERANCE,
};

#[test]
fn trajectories() {
    assert_trajectories(&|graph, _| reference(graph), &reference_tolerance);
    for family in families() {
        let make = |graph: &Graph, case: &Case| {
            device_with(
                graph,
                &PlanOptions::default().family(family).missed_steps(counts_element_steps(case)),
            )
        };
        assert_trajectories(&make, &|_| DEVICE_TRAJECTORY);
    }
}

fn assert_trajectories(make: &dyn Fn(&Graph, &Case) -> Box<dyn Executor>, allowed: &dyn Fn(&Case) -> Errors) {
    let all = cases("trajectory");
    let mut worst = Errors::default();
    for case in &all {
        let errors = check_trajectory(&|graph| make(graph, case), case, &allowed(case))
            .unwrap_or_else(|message| panic!("{message}"));
        worst = worst.max(errors);
    }
    println!("trajectories: {} compared, largest errors {worst:?}", all.len());
}

#[test]
fn trajectory_comparison_fails_on_injected_faults() {
    let faults = [
        ("traj_adam", Fault::Scale { op: "conv2d", factor: 1.00001 }, "traj_adam step 0"),
        ("traj_sgd", Fault::NoMask, "frozen element"),
        ("traj_adamw_every_layer_frozen", Fault::NoMask, "frozen element"),
        ("traj_sgd_momentum_change_reset", Fault::NoState, "step 15"),
        ("traj_adam_change_reset", Fault::NoState, "step 15"),
        ("traj_adam_change_keep_element_steps", Fault::NoMissedSteps, "step 15"),
        ("traj_adam_change_reset_element_steps", Fault::NoMissedSteps, "step 15"),
        ("traj_amsgrad_changes_keep_element_steps", Fault::NoMissedSteps, "step 2"),
    ];
    let all = cases("trajectory");
    for (name, fault, expected) in faults {
        let case = all.iter().find(|case| case.name == name).expect("a trajectory of this name");
        let make = move |graph: &Graph| -> Box<dyn Executor> { Faulty::boxed(&reference, graph, fault) };
        let message = check_trajectory(&make, case, &reference_tolerance(case)).unwrap_err();
        assert!(message.contains(name) && message.contains(expected), "{message}");
    }
}

#[test]
fn trajectory_network_has_the_parameters_of_the_manifest_in_order() {
    for case in cases("trajectory") {
        let paths: Vec<_> = net(&case, update_rule(&case)).parameters.into_iter().map(|p| p.path).collect();
        let listed: Vec<_> = case.params["params"].as_array().expect("params").clone();
        assert_eq!(listed, paths, "{}", case.name);
    }
}
