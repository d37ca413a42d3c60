//! The architecture of a model as text, so that a file can name the network that its weights belong to.

use super::{Model, ModelBuilder, Source};
use crate::error::{Error, Result};
use crate::layer::Layer;
use serde::{Deserialize, Serialize};

/// A model without its parameters.
#[derive(Serialize, Deserialize)]
struct Architecture {
    /// Name and shape of one example of each input.
    inputs: Vec<(String, Vec<usize>)>,
    layers: Vec<Entry>,
    outputs: Vec<Source>,
}

/// A layer of an architecture.
#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    layer: Layer,
    operands: Vec<Source>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repeats: Option<usize>,
}

impl Model {
    /// Returns the architecture (layers, names and shapes, without initializers) as JSON in one line. Checkpoints
    /// contain it.
    ///
    /// ```
    /// use frazil::Model;
    ///
    /// let model = Model::digits()?;
    /// let copy = Model::from_json(&model.to_json())?;
    /// assert_eq!(copy.parameters().len(), model.parameters().len());
    /// # Ok::<(), frazil::Error>(())
    /// ```
    pub fn to_json(&self) -> String {
        // Maps with keys that are no text, and floats that are no numbers, are what cannot be written: there are
        // none, because building the model refused such numbers.
        serde_json::to_string(&self.architecture()).unwrap_or_default()
    }

    fn architecture(&self) -> Architecture {
        let layers = self.layers().iter().map(|named| Entry {
            name: named.name.clone(),
            layer: named.layer.clone(),
            operands: named.inputs.clone(),
            repeats: named.repeats,
        });
        let (inputs, outputs) = (self.inputs().to_vec(), self.outputs().to_vec());
        Architecture { inputs, layers: layers.collect(), outputs }
    }

    /// Builds the model of an architecture that [`Model::to_json`] returned.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the text is not such an architecture, and as
    /// [`ModelBuilder::build`](super::ModelBuilder::build).
    pub fn from_json(text: &str) -> Result<Self> {
        let at = "architecture";
        let refused = |error: serde_json::Error| Error::argument(at, "the JSON of Model::to_json", error);
        serde_json::from_str::<Architecture>(text).map_err(refused)?.build()
    }
}

impl Architecture {
    fn build(&self) -> Result<Model> {
        let at = "architecture";
        let inputs = self.inputs.iter().map(|(name, shape)| Model::named_input(name, shape.clone()));
        let inputs: Vec<_> = inputs.collect();
        let mut values: Vec<ModelBuilder> = Vec::new();
        let find = |values: &[ModelBuilder], source: Source| {
            let found = match source {
                Source::Input(index) => inputs.get(index),
                Source::Layer(index) => values.get(index),
            };
            found
                .cloned()
                .ok_or_else(|| Error::argument(at, "operands before their layers", format!("{source:?}")))
        };
        for Entry { name, layer, operands, repeats } in &self.layers {
            let operands =
                operands.iter().map(|&source| find(&values, source)).collect::<Result<Vec<_>>>()?;
            let mut operands = operands.into_iter();
            let first = operands.next().ok_or_else(|| Error::argument(name, "an operand or more", "none"))?;
            values.push(match repeats {
                Some(index) => first.repeat(name, &find(&values, Source::Layer(*index))?),
                None => first.join(name, layer.clone(), operands),
            });
        }
        let outputs = self.outputs.iter().map(|&source| find(&values, source));
        let model = Model::with_outputs(outputs.collect::<Result<Vec<_>>>()?)?;
        let names = |name: &String, other: &str| name == other;
        let same = model.inputs() == self.inputs
            && model.layers().len() == self.layers.len()
            && model.layers().iter().zip(&self.layers).all(|(a, b)| names(&b.name, &a.name));
        if same {
            return Ok(model);
        }
        Err(Error::argument(at, "inputs and layers that the outputs depend on, in order", "others"))
    }
}

impl Model {
    /// Returns the model with another number of classes: its last dense layer or convolution has as many outputs.
    ///
    /// ```
    /// use frazil::Model;
    ///
    /// let model = Model::named("resnet18")?.with_classes(3)?;
    /// assert_eq!(model.output(), [3]);
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no classes, and if there is no such layer before the only output, or others than
    /// activations and pooling follow it.
    pub fn with_classes(&self, classes: usize) -> Result<Self> {
        let at = "Model::with_classes";
        let refused = |got: String| {
            Error::argument(at, "a dense layer or convolution whose outputs are those of the model", got)
        };
        let mut architecture = self.architecture();
        let mut source = match *self.outputs() {
            [only] => only,
            ref others => return Err(refused(format!("{} outputs", others.len()))),
        };
        loop {
            let Source::Layer(index) = source else { return Err(refused("an input".to_owned())) };
            let entry = &mut architecture.layers[index];
            if let Some(layer) = entry.layer.with_outputs(classes) {
                entry.layer = layer;
                break;
            }
            match entry.operands.as_slice() {
                [only] if entry.layer.keeps_channels() => source = *only,
                _ => return Err(refused(format!("layer {:?}", entry.name))),
            }
        }
        let model = architecture.build()?;
        if model.output() != [classes] {
            return Err(refused(format!("outputs {:?}", model.output())));
        }
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Padding::Same;

    #[test]
    fn architectures_are_read_as_written() {
        let image =
            Model::input([8, 6, 3]).conv2d("a", 4, [3, 3], |c| c.padding(Same).groups(1).dilation([2, 1]));
        let norm = image
            .clone()
            .batch_norm_with("bn", |n| n.epsilon(1e-3).momentum(0.01).biased(true))
            .leaky_relu(0.2);
        let again = norm.clone().conv2d("b", 4, [3, 3], |c| c.padding(Same).bias(false));
        let again = again.clone().relu().repeat("again", &again);
        let joined = again.add("sum", [image, norm.clone()]).mul("product", norm).dropout(0.25);
        let branches = joined.clone().max_pool2d([2, 2]).flatten().dense("fc", 3);
        let branches = Model::with_outputs([branches, joined.global_avg_pool()]).unwrap();
        let named = Model::NAMES.map(|name| Model::named(name).unwrap());
        for model in named.iter().chain([&branches]) {
            let text = model.to_json();
            assert!(!text.contains('\n'));
            let copy = Model::from_json(&text).unwrap();
            assert_eq!(copy.to_json(), text);
            let paths = |model: &Model| {
                model
                    .parameters()
                    .iter()
                    .map(|p| (p.path.clone(), p.shape.clone(), p.kind))
                    .collect::<Vec<_>>()
            };
            assert_eq!(paths(&copy), paths(model));
            assert_eq!((copy.outputs(), copy.output()), (model.outputs(), model.output()));
        }
    }

    #[test]
    fn other_texts_are_named_errors() {
        let valid = Model::input([3]).dense("fc", 2).build().unwrap().to_json();
        assert!(Model::from_json(&valid).is_ok());
        let layer = "{\"Input\":0}";
        assert!(valid.contains(layer), "{valid}");
        for (text, part) in [
            (String::new(), "Model::to_json"),
            (valid.replace("Dense", "Densest"), "Densest"),
            (valid.replace(layer, "{\"Input\":7}"), "before their layers"),
            (valid.replace(layer, "{\"Layer\":0}"), "before their layers"),
            (valid.replace("\"operands\":[{\"Input\":0}]", "\"operands\":[]"), "an operand or more"),
            (valid.replace("[3]", "[3, 4]"), "flatten"),
            (valid.replace("\"outputs\":[{\"Layer\":0}]", "\"outputs\":[{\"Input\":0}]"), "depend on"),
            ("[".repeat(100_000), "Model::to_json"),
        ] {
            let error = Model::from_json(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
