//! Tests the scaling of gradients in the cooperative-matrix family on a transposed convolution, where the
//! roles are exchanged: `Op::Conv2dGradInput` is the forward operation, and `Op::Conv2d` computes its input
//! gradient.

use crate::support::compare::{assert_relative, widen};
use crate::support::device::gpu;
use crate::support::random::stream;
use crate::support::skip;
use frazil::low_level::GemmFamily;
use frazil::low_level::{Conv2d, DType, Graph, Op, StepScalars, ValueId};
use frazil::low_level::{Padding, Shape, Window};
use frazil::low_level::{Plan, PlanOptions};

/// The graph of a transposed convolution from 8x8 to 16x16 (`up`), a convolution (`head`) and a mean squared
/// error, with its gradients with respect to the images and both kernels.
struct Network {
    graph: Graph,
    /// The images, the target, the kernel of `up` and the kernel of `head`.
    inputs: [ValueId; 4],
    /// The gradients with respect to the images, the kernel of `up` and the kernel of `head`.
    gradients: Vec<ValueId>,
}

fn network() -> Network {
    let conv = |stride: usize| {
        let window = Window { padding: Padding::Same, stride: [stride; 2], ..Window::new([3, 3]) };
        Conv2d::new([16, 16, 32], 32, window, 1, "conv").unwrap()
    };
    let mut g = Graph::new(4).unwrap();
    let x = g.batch_input("x", &[8, 8, 32], DType::F32).unwrap();
    let target = g.batch_input("target", &[16, 16, 32], DType::F32).unwrap();
    let kernel = |g: &mut Graph, name| g.input(name, Shape::new([3, 3, 32, 32]).unwrap(), DType::F32);
    let (up, head) = (kernel(&mut g, "up kernel"), kernel(&mut g, "head kernel"));
    let y = g.push_one(Op::Conv2dGradInput(conv(2)), &[x, up], "up").unwrap();
    let y = g.push_one(Op::Conv2d(conv(1)), &[y, head], "head").unwrap();
    let losses = g.push_one(Op::MeanSquaredError, &[y, target], "loss").unwrap();
    // Scaling the loss makes the gradients as small as 1e-6, where adjacent f16 numbers are 6e-8 apart.
    // Multiplied by 1024 before they are rounded, they have the full relative precision of f16, 2^-11.
    let loss = g.push_one(Op::Scale(1.0 / 64.0), &[losses], "scaled loss").unwrap();
    let gradients = g.backward(loss, &[x, up, head]).unwrap();
    gradients.iter().for_each(|&gradient| g.mark_output(gradient).unwrap());
    Network { graph: g, inputs: [x, target, up, head], gradients }
}

/// Every GEMM multiplies by 1024 the operand that is a gradient of the loss, and no other operand.
#[test]
fn gemms_scale_gradients_and_no_other_operand() {
    let mut adapter = gpu().report().clone();
    adapter.subgroup = Some([32, 32]);
    adapter.cooperative_matrix = Some(16);
    adapter.max_workgroup_memory = 16_384;
    adapter.max_invocations = 256;
    let family = GemmFamily::cooperative(&adapter).unwrap();
    let options = PlanOptions::default().family(family);
    let graph = network().graph;
    let launches = Plan::launches(&graph, &adapter, &options).unwrap();
    let dispatches = Plan::estimate(&graph, &adapter, &options).unwrap().dispatches;
    assert_eq!(launches.len(), dispatches.len());
    let mut scales = Vec::new();
    for (launch, dispatch) in launches.iter().zip(&dispatches).filter(|(_, d)| d.kernel == "gemm_cooperative")
    {
        let scaled = |operand: &str| {
            let of =
                |scale: &str| launch.declarations.contains(&format!("const {operand}_SCALE: f32 = {scale};"));
            assert!(of("1.0") != of("1024.0"), "{}: {:?}", dispatch.label, launch.declarations);
            of("1024.0")
        };
        scales.push((dispatch.label.as_str(), [scaled("A"), scaled("B")]));
    }
    // The transposed convolution of stride 2 consists of several GEMMs, and so may a GEMM with split-K. Each
    // is listed once.
    scales.dedup();
    let expected = [
        ("up", [false, false]),
        ("head", [false, false]),
        // The weight gradient is `transpose(x) * dy`, so operand B is scaled.
        ("head grad_kernel", [false, true]),
        ("head grad_input", [true, false]),
        // `up` is an `Op::Conv2dGradInput`, so its upstream gradient takes the place of the input x of a
        // convolution: operand A in both of its gradients.
        ("up grad_kernel", [true, false]),
        ("up grad_input", [true, false]),
    ];
    assert_eq!(scales, expected);
}

#[test]
fn small_gradients_survive_a_transposed_convolution() {
    let Some(cooperative) = GemmFamily::cooperative(gpu().report()) else {
        let why = format!("{} has no cooperative matrices", gpu().report().name);
        return skip("cooperative_gradients: small_gradients_survive_a_transposed_convolution", &why);
    };
    let Network { graph, inputs, gradients } = network();
    let run = |family: GemmFamily| {
        let plan = Plan::compile(gpu(), &graph, &PlanOptions::default().family(family)).unwrap();
        let mut draw = stream(5);
        for id in inputs {
            let elements = graph.value(id).unwrap().shape.elements();
            // Kernels are scaled by about 1 / sqrt(9 * 32), the number of terms in a sum, so that results
            // have the same variance as the inputs.
            let scale = if graph.value(id).unwrap().batched { 1.0 } else { 1.0 / 17.0 };
            let data: Vec<f32> = (0..elements).map(|_| draw.normal() * scale).collect();
            plan.write_f32(id, &data).unwrap();
        }
        plan.run(StepScalars::forward(4)).unwrap();
        gradients.iter().map(|&id| widen(&plan.read_f32(id).unwrap())).collect::<Vec<_>>()
    };
    let (got, want) = (run(cooperative), run(GemmFamily::Register));
    for (name, (got, want)) in ["x", "up", "head"].iter().zip(got.iter().zip(&want)) {
        // Both operands of each GEMM are rounded to 11 bits, which causes an error of 4e-4. Without scaling,
        // the error would be 1.2e-2.
        let error = assert_relative(&format!("gradient of {name}"), got, want, 2e-3);
        println!("gradient of {name}: within {error:.1e}");
    }
}
