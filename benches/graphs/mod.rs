//! Graphs of one operation, which the benchmarks of kernels and tiles measure.

use frazil::Result;
use frazil::low_level::{Conv2d, DType, Graph, Op, Padding, Shape, Window};

/// `C [m, n] = A [m, k] * B [k, n]`.
pub fn gemm([m, k, n]: [usize; 3]) -> Result<Graph> {
    let mut graph = Graph::new(1)?;
    let a = graph.input("a", Shape::new([m, k])?, DType::F32);
    let b = graph.input("b", Shape::new([k, n])?, DType::F32);
    let op = Op::MatMul { transpose_a: false, transpose_b: false };
    let c = graph.push_one(op, &[a, b], "gemm")?;
    graph.mark_output(c)?;
    Ok(graph)
}

/// One pass (`forward`, `grad_input` or `grad_kernel`) of a convolution of square images that keeps their size.
pub fn convolution([batch, side, c_in, c_out, kernel]: [usize; 5], pass: &str) -> Result<Graph> {
    let window = Window { padding: Padding::Same, ..Window::new([kernel; 2]) };
    let conv = Conv2d::new([side, side, c_in], c_out, window, 1, pass)?;
    let mut graph = Graph::new(batch)?;
    let images = |graph: &mut Graph| graph.batch_input("x", &[side, side, c_in], DType::F32);
    let gradients = |graph: &mut Graph| graph.batch_input("dy", &[side, side, c_out], DType::F32);
    let (op, first) = match pass {
        "forward" => (Op::Conv2d(conv), images(&mut graph)?),
        "grad_input" => (Op::Conv2dGradInput(conv), gradients(&mut graph)?),
        _ => (Op::Conv2dGradKernel(conv), images(&mut graph)?),
    };
    let second = match op {
        Op::Conv2dGradKernel(_) => gradients(&mut graph)?,
        _ => graph.input("kernel", Shape::new(conv.kernel_shape())?, DType::F32),
    };
    let result = graph.push_one(op, &[first, second], pass)?;
    graph.mark_output(result)?;
    Ok(graph)
}
