//! Normalization of each example: group norm and layer norm.

use super::{Init, ParameterSpec};
use crate::error::{Error, Result};
use crate::graph::{Graph, Normalization, Op, ParameterKind, ValueId};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// Group normalization of each example (Wu and He 2018), `(x - mean)/sqrt(variance + epsilon)*scale + shift`: mean and
/// biased variance are those of a group of adjacent channels at all positions, scale and shift are per channel. With
/// one group per channel it is instance normalization.
///
/// Trained parameters, each `[channels]`: `NAME.scale` and `NAME.shift`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupNormLayer {
    pub(crate) groups: usize,
    pub(crate) epsilon: f64,
    pub(crate) affine: bool,
}

impl GroupNormLayer {
    /// A group norm with this number of groups and PyTorch's default epsilon, 1e-5.
    pub fn new(groups: usize) -> Self {
        GroupNormLayer { groups, epsilon: 1e-5, affine: true }
    }

    /// Sets the constant that is added to the variance.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets whether there are scale and shift. Default: yes.
    pub fn affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        let channels = channels(name, input)?;
        if self.groups == 0 || !channels.is_multiple_of(self.groups) {
            return Err(Error::argument(
                name,
                format!("groups that divide {channels} channels"),
                self.groups,
            ));
        }
        several(name, input, Shape::new(input)?.elements() / self.groups)
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        let channels = channels(name, input)?;
        scale_and_shift(name, self.affine, &[channels])
    }

    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
    ) -> Result<ValueId> {
        let of = Normalization { groups: self.groups, each_position: false, epsilon: self.epsilon };
        normalize(graph, name, of, x, parameters)
    }
}

/// Layer normalization of each example (Ba et al. 2016), `(x - mean)/sqrt(variance + epsilon)*scale + shift`: mean and
/// biased variance are those of the channels at each position, or of all elements of the example if
/// [`LayerNormLayer::over_examples`] is set. Scale and shift have one element for each that is normalized.
///
/// Trained parameters, each `[channels]`, or of the shape of an example: `NAME.scale` and `NAME.shift`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNormLayer {
    pub(crate) epsilon: f64,
    pub(crate) affine: bool,
    pub(crate) over_examples: bool,
}

impl Default for LayerNormLayer {
    fn default() -> Self {
        LayerNormLayer::new()
    }
}

impl LayerNormLayer {
    /// A layer norm over the channels with PyTorch's default epsilon, 1e-5.
    pub fn new() -> Self {
        LayerNormLayer { epsilon: 1e-5, affine: true, over_examples: false }
    }

    /// Sets the constant that is added to the variance.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets whether there are scale and shift. Default: yes.
    pub fn affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// Sets whether all elements of an example are normalized together (PyTorch's `normalized_shape` of `[c, h, w]`)
    /// or the channels of each position. Default: the channels.
    pub fn over_examples(mut self, over_examples: bool) -> Self {
        self.over_examples = over_examples;
        self
    }

    /// Shape of what is normalized together.
    fn normalized<'a>(&self, input: &'a [usize]) -> &'a [usize] {
        if self.over_examples { input } else { &input[input.len().saturating_sub(1)..] }
    }

    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        channels(name, input)?;
        several(name, input, Shape::new(self.normalized(input))?.elements())
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        channels(name, input)?;
        scale_and_shift(name, self.affine, self.normalized(input))
    }

    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
    ) -> Result<ValueId> {
        let of = Normalization { groups: 1, each_position: true, epsilon: self.epsilon };
        let extents = graph.at(x).shape.extents().to_vec();
        if !self.over_examples || extents.len() == 2 {
            return normalize(graph, name, of, x, parameters);
        }
        let mut reshape = |value: ValueId, to: Vec<usize>| {
            graph.push_one(Op::Reshape(to), &[value], &format!("{name} reshape"))
        };
        let elements = extents[1..].iter().product();
        let x = reshape(x, vec![extents[0], elements])?;
        let parameters = parameters.iter().map(|&value| reshape(value, vec![elements]));
        let parameters = parameters.collect::<Result<Vec<_>>>()?;
        let y = normalize(graph, name, of, x, &parameters)?;
        graph.push_one(Op::Reshape(extents), &[y], &format!("{name} reshape"))
    }
}

/// Returns the number of channels of an example.
fn channels(name: &str, input: &[usize]) -> Result<usize> {
    input.last().copied().ok_or_else(|| Error::shape(name, "examples of shape [.., channels]", "[]"))
}

/// Returns the shape of the output if `normalized` elements can be normalized together: a single one would become 0.
fn several(name: &str, input: &[usize], normalized: usize) -> Result<Vec<usize>> {
    if normalized > 1 {
        return Ok(input.to_vec());
    }
    Err(Error::shape(name, "2 elements or more that are normalized together", format!("1 of {input:?}")))
}

fn scale_and_shift(name: &str, affine: bool, shape: &[usize]) -> Result<Vec<ParameterSpec>> {
    let fields = [("scale", Init::Ones), ("shift", Init::Zeros)];
    let fields = fields.into_iter().filter(|_| affine).map(|(field, init)| {
        let (shape, kind) = (Shape::new(shape)?, ParameterKind::Trained);
        let fan = [shape.elements(); 2];
        Ok(ParameterSpec { path: format!("{name}.{field}"), shape, init, fan, kind })
    });
    fields.collect()
}

/// Appends the normalization, and the multiplication and addition of scale and shift if there are any.
fn normalize(
    graph: &mut Graph,
    name: &str,
    of: Normalization,
    x: ValueId,
    parameters: &[ValueId],
) -> Result<ValueId> {
    let label = if parameters.is_empty() { name.to_owned() } else { format!("{name} normalize") };
    let normalized = graph.push(Op::Normalize(of), &[x], &label)?[0];
    match parameters {
        [] => Ok(normalized),
        &[scale, shift] => {
            let scaled = graph.push_one(Op::MulChannels, &[normalized, scale], &format!("{name} scale"))?;
            graph.push_one(Op::BiasAdd, &[scaled, shift], name)
        }
        others => Err(Error::argument(name, "0 or 2 parameters", others.len())),
    }
}
