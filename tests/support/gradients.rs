//! Compares gradients of whole graphs with central differences in f64.

use super::random::{normal, stream};
use frazil::low_level::Reference;
use frazil::low_level::{DType, Graph, Role, StepScalars, ValueId};

/// Elements of each input and parameter of a graph, for a full batch.
pub type Data = Vec<(ValueId, Vec<f64>)>;

/// Draws random data for all inputs and parameters that some operation reads: floats are standard normal, and
/// integers are below `classes`.
pub fn draw(graph: &Graph, classes: usize, seed: u64) -> Data {
    let mut data = stream(seed);
    let mut ids: Vec<_> = graph.nodes().iter().flat_map(|node| node.inputs.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| graph.value(*id).unwrap().role != Role::Computed);
    let mut fill = |id: ValueId| {
        let value = graph.value(id).unwrap();
        let elements = value.shape.elements();
        match value.dtype {
            DType::F32 => (id, normal(&mut data, elements)),
            DType::U32 => (id, (0..elements).map(|_| data.below(classes) as f64).collect()),
        }
    };
    ids.into_iter().map(&mut fill).collect()
}

/// Returns the number of elements in the first `rows` examples of a value, or in all of a value without a
/// batch axis.
pub fn used(graph: &Graph, id: ValueId, rows: usize) -> usize {
    let value = graph.value(id).unwrap();
    if value.batched { rows * value.elements_per_row() } else { value.shape.elements() }
}

/// Returns the largest difference between a gradient and the central difference of the mean of `loss`,
/// relative to the largest central difference of the same value; infinite if a gradient is NaN.
///
/// `pairs` contains values and their gradients. Only the first `rows` examples are valid: the others contain
/// NaN or the largest integer, and must not be read.
fn worst(
    graph: &Graph,
    loss: ValueId,
    pairs: &[(ValueId, ValueId)],
    data: &Data,
    rows: usize,
    step: f64,
) -> f64 {
    let mut reference = Reference::new(graph).unwrap();
    let mut data = data.clone();
    for (id, data) in &mut data {
        let integers = graph.value(*id).unwrap().dtype == DType::U32;
        let poison = if integers { f64::from(u32::MAX) } else { f64::NAN };
        data[used(graph, *id, rows)..].fill(poison);
        reference.write(*id, data).unwrap();
    }
    let run = |reference: &mut Reference| {
        reference.run(StepScalars::forward(rows)).unwrap();
        let losses = &reference.read(loss)[..used(graph, loss, rows)];
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    run(&mut reference);
    let analytic: Vec<_> =
        pairs.iter().map(|(_, id)| reference.read(*id)[..used(graph, *id, rows)].to_vec()).collect();
    let mut worst = 0.0f64;
    for ((value, gradient), analytic) in pairs.iter().zip(analytic) {
        assert_eq!(graph.value(*value).unwrap().shape, graph.value(*gradient).unwrap().shape);
        let (_, data) = data.iter_mut().find(|(id, _)| id == value).expect("an input or a parameter");
        let mut mean = |index: usize, by: f64| {
            let kept = data[index];
            data[index] = kept + by;
            reference.write(*value, data).unwrap();
            data[index] = kept;
            run(&mut reference)
        };
        let numeric: Vec<_> =
            (0..analytic.len()).map(|i| (mean(i, step) - mean(i, -step)) / (2.0 * step)).collect();
        reference.write(*value, data).unwrap();
        let scale = numeric.iter().fold(1e-3f64, |scale, x| scale.max(x.abs()));
        for (n, a) in numeric.iter().zip(&analytic) {
            let error = (n - a).abs() / scale;
            worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
        }
    }
    worst
}

/// Asserts that gradients equal central differences within `tolerance` of the largest one, with a full batch
/// and with one example less.
///
/// `pairs` contains values and their gradients.
pub fn assert_gradients(
    what: &str,
    graph: &Graph,
    loss: ValueId,
    pairs: &[(ValueId, ValueId)],
    data: &Data,
    step: f64,
    tolerance: f64,
) {
    for rows in [graph.batch(), graph.batch() - 1] {
        if rows > 0 {
            let worst = worst(graph, loss, pairs, data, rows, step);
            println!("{what}, {rows} rows: {worst:.1e}");
            assert!(
                worst <= tolerance,
                "{what}, {rows} rows: expected an error of at most {tolerance:.0e} of the largest gradient, got {worst:e}"
            );
        }
    }
}
