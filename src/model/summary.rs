//! A table of a model's layers.

use super::Model;
use crate::graph::ParameterKind;
use crate::layer::Layer;
use std::fmt;

/// Layers of a model with their shapes, parameters and work, as [`Model::summary`] returns them. Displays as a table.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSummary {
    /// Name and shape of one example of each input.
    pub inputs: Vec<(String, Vec<usize>)>,
    /// All layers, in order.
    pub layers: Vec<LayerSummary>,
    /// Number of elements of all trained parameters.
    pub trained: usize,
    /// Number of elements of all running statistics.
    pub statistics: usize,
}

/// A layer in a [`ModelSummary`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSummary {
    /// Name.
    pub name: String,
    /// Kind, such as `conv` or `batch_norm`.
    pub kind: &'static str,
    /// Shape of the output for one example.
    pub output: Vec<usize>,
    /// Number of elements of its own parameters; 0 for a layer that repeats another.
    pub parameters: usize,
    /// Floating-point operations of the forward pass of one example: 2 for each multiply-add of a convolution or
    /// dense layer, bias excluded. Other layers are not counted.
    pub flops: u64,
}

impl ModelSummary {
    /// Floating-point operations of the forward pass of one example, as in [`LayerSummary::flops`].
    pub fn flops(&self) -> u64 {
        self.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.flops))
    }
}

impl Model {
    /// Returns a table of the layers.
    ///
    /// ```
    /// use frazil::Model;
    ///
    /// let summary = Model::lenet28()?.summary();
    /// assert_eq!(summary.layers[0].output, [28, 28, 32]);
    /// assert_eq!(summary.layers[0].flops, 2 * 28 * 28 * 32 * 25);
    /// println!("{summary}");
    /// # Ok::<(), frazil::Error>(())
    /// ```
    pub fn summary(&self) -> ModelSummary {
        let elements = |range: std::ops::Range<usize>| -> usize {
            self.parameters()[range].iter().map(|parameter| parameter.shape.elements()).sum()
        };
        let layers = self.layers().iter().map(|named| {
            let outputs: usize = named.output().iter().product();
            // Each output is a sum over the elements of a kernel, divided by its output channels. Transposed
            // convolutions have their input channels last: each input is multiplied by as many elements.
            let per_channel = || {
                let kernel = &self.parameters()[named.parameters.start].shape;
                kernel.elements() / kernel.last()
            };
            let products = match &named.layer {
                Layer::Conv2d(_) | Layer::Dense(_) => outputs.saturating_mul(per_channel()),
                Layer::ConvTranspose2d(_) => {
                    let input = self.shape(named.inputs[0]).unwrap_or(&[]);
                    input.iter().product::<usize>().saturating_mul(per_channel())
                }
                _ => 0,
            };
            LayerSummary {
                name: named.name.clone(),
                kind: named.layer.label(),
                output: named.output().to_vec(),
                parameters: if named.repeats.is_some() { 0 } else { elements(named.parameters()) },
                flops: (products as u64).saturating_mul(2),
            }
        });
        let layers = layers.collect();
        let of = |kind: ParameterKind| {
            self.parameters().iter().filter(|p| p.kind == kind).map(|p| p.shape.elements()).sum()
        };
        let (trained, statistics) = (of(ParameterKind::Trained), of(ParameterKind::Statistic));
        ModelSummary { inputs: self.inputs().to_vec(), layers, trained, statistics }
    }
}

impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{:<32} {:<16} {:<18} {:>12} {:>10}", "layer", "kind", "output", "parameters", "MFLOP")?;
        for (name, shape) in &self.inputs {
            writeln!(f, "{name:<32} {:<16} {:<18}", "input", format!("{shape:?}"))?;
        }
        for layer in &self.layers {
            let output = format!("{:?}", layer.output);
            let (parameters, flops) = (layer.parameters, layer.flops as f64 / 1e6);
            write!(f, "{:<32} {:<16} {output:<18} {parameters:>12}", layer.name, layer.kind)?;
            if layer.flops > 0 { writeln!(f, " {flops:>10.3}")? } else { writeln!(f)? }
        }
        write!(
            f,
            "{} trained parameters, {} running statistics, {:.3} MFLOP forward for one example",
            self.trained,
            self.statistics,
            self.flops() as f64 / 1e6
        )
    }
}
