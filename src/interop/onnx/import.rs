//! Reads the network of an ONNX file as a model with its parameters.
//!
//! ONNX's images are NCHW and its kernels OIHW, as PyTorch's. Layers are built on NHWC; [`TorchStateDict`]
//! converts the parameters, with those after a flatten.

use super::attributes::{decimal, extent, float, int, pair, text};
use super::contents::operator;
use super::fold::{BATCH, Known, fold, shape_text};
use super::names::{clean, module_of, path_of};
use super::proto::{Attribute, File, MAX_FILLED, Node, Read, Tensor};
use super::resize;
use crate::error::{Error, Result, printable};
use crate::file;
use crate::graph::Activation;
use crate::interop::torch::{TorchStateDict, TorchTensor};
use crate::layer::{
    BatchNormLayer, Conv2dLayer, ConvTranspose2dLayer, DenseLayer, GroupNormLayer, Layer, LayerNormLayer,
    LocalResponseNormLayer, Pool2dLayer,
};
use crate::model::{Model, ModelBuilder};
use crate::shape::{Padding, Shape};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// A network that [`read_onnx`] read: a model that can be trained, and its parameters.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxNetwork {
    /// The model. Images are NHWC: an input `[n, c, h, w]` of the file is `[n, h, w, c]`.
    pub model: Model,
    /// Paths and values of all parameters, for [`Trainer::set_parameters`](crate::Trainer::set_parameters) and
    /// [`Predictor::new`](crate::Predictor::new).
    pub parameters: Vec<(String, Vec<f32>)>,
    /// What a reader should know about the file, such as that its exporter folded batch norms into convolutions.
    pub notes: Vec<String>,
}

/// Reads a network from an ONNX file.
///
/// The layers have the names of the file's weights (`features.0` for `features.0.weight`), or else of its nodes.
/// The parameters are found as in a PyTorch state dict, and freeze and train as those of any model.
///
/// Operators: `Add`, `AveragePool`, `BatchNormalization`, `Clip`, `Concat` of channels, `Constant`, `ConstantOfShape`,
/// `Conv`, `ConvTranspose`, `Dropout`, `Flatten`, `Gelu`, `Gemm`, `GlobalAveragePool`, `GlobalMaxPool`,
/// `GroupNormalization`, `HardSigmoid`, `HardSwish`, `Identity`, `InstanceNormalization`, `LayerNormalization` over
/// examples, features or (between transposes) channels, `LeakyRelu`, `LogSoftmax`, `LRN`, `MatMul` with a constant, `MaxPool`, `Mul`, `Pad`
/// with zeros, `ReduceMean` over rows and columns, `Relu`, `Reshape` to features, `Resize` and `Upsample` as in
/// [`UpsampleLayer`](crate::layer::UpsampleLayer), `Sigmoid`, `Softmax`, `Squeeze`, `Sum`, `Tanh`, `Transpose` around a
/// layer norm or between the reshapes of a channel shuffle, `Unsqueeze`; and `Shape`, `Slice`, `Gather` and `Cast` of shapes.
///
/// ```no_run
/// use frazil::interop::read_onnx;
/// use frazil::{Gpu, GpuOptions, FreezeRule, Loss, Sgd, Trainer, TrainerOptions};
///
/// let network = read_onnx("resnet18.onnx")?;
/// let gpu = Gpu::new(GpuOptions::default())?;
/// let loss = Loss::SoftmaxCrossEntropy;
/// let mut trainer = Trainer::new(&gpu, network.model, loss, Sgd::new(0.01), TrainerOptions::batch(32))?;
/// trainer.set_parameters(&network.parameters)?;
/// trainer.freeze("layer1.*", FreezeRule::kernel_position(1, 1))?;
/// # Ok::<(), frazil::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`], [`Error::HostMemory`]; [`Error::Data`] if the file is damaged or needs something else, with all
/// such operators at once, before anything is built.
pub fn read_onnx(file: impl AsRef<Path>) -> Result<OnnxNetwork> {
    let path = file.as_ref();
    let bytes = file::read(path)?;
    let refused = |(place, why): (String, String)| Error::Data {
        path: path.to_owned(),
        place: printable(&place),
        why: printable(&why),
        source: None,
    };
    let file = File::new(&bytes).map_err(|why| refused(("model".to_owned(), why)))?;
    check_operators(&file).map_err(|why| refused(("operators".to_owned(), why)))?;
    Importer::new(&file).map_err(|why| refused(("graph".to_owned(), why)))?.run().map_err(refused)
}

/// The operators that [`Importer::node`] reads.
const OPERATORS: [&str; 44] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Flatten",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Squeeze",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Upsample",
];

fn check_operators(file: &File) -> Read<()> {
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    for node in &file.nodes {
        let is_standard = matches!(node.domain, "" | "ai.onnx");
        if !(is_standard && OPERATORS.contains(&node.op)) {
            *unknown.entry(operator(node)).or_default() += 1;
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = unknown.iter().map(|(op, count)| format!("{op} ({count})")).collect();
    Err(format!("these are not supported: {}", all.join(", ")))
}

/// A value of the network.
#[derive(Clone, Debug)]
struct Value {
    builder: ModelBuilder,
    /// Shape of one example, in this crate's layout.
    shape: Vec<usize>,
    /// Whether ONNX's value is `[n, c, 1, 1]`, while `shape` is `[c]`.
    pooled: bool,
    /// Zeros that a `Pad` adds, `[top, left, bottom, right]`: the next layer must take them.
    pad: [usize; 4],
    form: Form,
}

/// The form that ONNX's value has, apart from its layout.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Plain,
    /// Images `[n, h, w, c]`, between two transposes.
    ChannelsLast,
    /// Images as `[n, groups, -1]`, between two reshapes.
    Grouped(usize),
    /// Images as `[n, groups, c / groups, h, w]`, between two reshapes; `turned` after the transpose of both middle
    /// axes.
    Shuffled {
        groups: usize,
        turned: bool,
    },
}

impl Value {
    fn rank(&self) -> usize {
        if self.pooled { 4 } else { 1 + self.shape.len() }
    }

    /// Shape of one example in ONNX's layout.
    fn onnx_shape(&self) -> Vec<usize> {
        match *self.shape {
            [c] if self.pooled => vec![c, 1, 1],
            [h, w, c] => vec![c, h, w],
            _ => self.shape.clone(),
        }
    }
}

/// What a name stands for.
#[derive(Clone, Debug)]
enum Operand<'a> {
    Constant(Tensor<'a>),
    Value(Value),
}

/// A layer whose weights other layers may use, too.
#[derive(Clone)]
struct Shared<'a> {
    builder: ModelBuilder,
    layer: Layer,
    weights: Vec<&'a str>,
}

struct Importer<'f, 'a> {
    file: &'f File<'a>,
    operands: HashMap<&'a str, Operand<'a>>,
    /// Number of uses of each name, by nodes and outputs.
    uses: HashMap<&'a str, usize>,
    /// Names of layers, with the number that the next layer of that name gets.
    names: HashMap<String, usize>,
    weights: Vec<TorchTensor<f32>>,
    /// The layer of each weight with all its weights, for layers that use them again.
    shared: HashMap<&'a str, Shared<'a>>,
    /// The addition that reads a name; the first one, if there are several.
    additions: HashMap<&'a str, &'f Node<'a>>,
    /// The first node that reads a name.
    readers: HashMap<&'a str, &'f Node<'a>>,
    /// Outputs of additions that became the bias of the layer before, and of other nodes that became a part of it.
    biases: BTreeSet<&'a str>,
    folded: bool,
    /// Number of elements of filled tensors that were used.
    filled: usize,
}

/// A refusal: the place and the reason.
type Refusal = (String, String);

/// Field, shape and values of each weight of a layer, in ONNX's layout.
type LayerWeights = Vec<(&'static str, Vec<usize>, Vec<f32>)>;

impl<'f, 'a> Importer<'f, 'a> {
    fn new(file: &'f File<'a>) -> Read<Self> {
        let mut uses: HashMap<&str, usize> = HashMap::new();
        let inputs = file.nodes.iter().flat_map(|node| node.inputs.iter().copied());
        for name in inputs.chain(file.outputs.iter().map(|output| output.name)) {
            *uses.entry(name).or_default() += 1;
        }
        let mut additions = HashMap::new();
        for node in file.nodes.iter().filter(|node| node.op == "Add") {
            for &input in &node.inputs {
                additions.entry(input).or_insert(node);
            }
        }
        let mut readers = HashMap::new();
        for node in &file.nodes {
            for &input in &node.inputs {
                readers.entry(input).or_insert(node);
            }
        }
        let mut importer = Importer {
            file,
            additions,
            readers,
            operands: HashMap::new(),
            uses,
            names: HashMap::new(),
            weights: Vec::new(),
            shared: HashMap::new(),
            biases: BTreeSet::new(),
            folded: false,
            filled: 0,
        };
        for tensor in &file.initializers {
            importer.define(tensor.name, Operand::Constant(tensor.clone()))?;
        }
        for input in &file.inputs {
            // Before version 4 of the format, initializers are listed as inputs, too.
            if importer.operands.contains_key(input.name) {
                continue;
            }
            let example = input.shape.as_deref().and_then(|shape| shape.get(1..)).unwrap_or(&[]);
            let known: Option<Vec<usize>> = example.iter().copied().collect();
            let shape = match known.as_deref() {
                Some(&[c, h, w]) => vec![h, w, c],
                Some(&[features]) => vec![features],
                _ => {
                    return Err(format!(
                        "input {:?}: expected [n, c, h, w] or [n, features] with known extents after n, got {:?}; export \
                         with a fixed size of images",
                        input.name, input.shape
                    ));
                }
            };
            // Also keeps products of the extents within the range of an integer.
            Shape::new(shape.as_slice()).map_err(|error| format!("input {:?}: {error}", input.name))?;
            let builder = Model::named_input(&clean(input.name), shape.clone());
            let value = Value { builder, shape, pooled: false, pad: [0; 4], form: Form::Plain };
            importer.define(input.name, Operand::Value(value))?;
        }
        Ok(importer)
    }

    /// Defines a name, once.
    fn define(&mut self, name: &'a str, operand: Operand<'a>) -> Read<()> {
        match self.operands.insert(name, operand) {
            None => Ok(()),
            Some(_) => Err(format!("expected one definition of {name:?}, got two")),
        }
    }

    /// Reads all nodes, which follow their operands in a valid file.
    fn run(mut self) -> std::result::Result<OnnxNetwork, Refusal> {
        for (index, node) in self.file.nodes.iter().enumerate() {
            if node.outputs.first().is_some_and(|output| self.biases.contains(output)) {
                continue;
            }
            let place = || match node.name {
                "" => format!("node {index} ({})", node.op),
                name => format!("node {name:?} ({})", node.op),
            };
            let operand = self.node(node, index).map_err(|why| (place(), why))?;
            let output = node.outputs.first().copied().unwrap_or("");
            self.define(output, operand).map_err(|why| (place(), why))?;
        }
        self.finish().map_err(|why| ("graph".to_owned(), why))
    }

    fn finish(self) -> Read<OnnxNetwork> {
        let mut outputs = Vec::new();
        for output in &self.file.outputs {
            match self.operands.get(output.name) {
                Some(Operand::Value(value)) if value.pad == [0; 4] && value.form == Form::Plain => {
                    outputs.push(value.builder.clone())
                }
                _ => return Err(format!("output {:?}: expected the result of a layer", output.name)),
            }
        }
        let model = Model::with_outputs(outputs).map_err(|error| error.to_string())?;
        let names = TorchStateDict::new(&model).map_err(|error| error.to_string())?;
        let parameters = names.import(&self.weights)?;
        let mut notes = Vec::new();
        if self.folded {
            notes.push(
                "the exporter seems to have folded batch norms into convolutions, as PyTorch's does in evaluation mode; \
                 export with training=TrainingMode.TRAINING to keep them"
                    .to_owned(),
            );
        }
        Ok(OnnxNetwork { model, parameters, notes })
    }

    fn operand(&self, node: &Node<'a>, index: usize) -> Read<&Operand<'a>> {
        let name = node.inputs.get(index).copied().unwrap_or("");
        self.operands.get(name).ok_or_else(|| match name {
            "" => format!("expected operand {index}, got none"),
            name => format!("expected operand {index} to be an input, a constant or the result of a node before, got {name:?}"),
        })
    }

    fn value(&self, node: &Node<'a>, index: usize) -> Read<Value> {
        let value = self.any_value(node, index)?;
        match value.form {
            Form::Plain => Ok(value),
            Form::ChannelsLast => {
                Err("expected LayerNormalization between Transpose nodes, got another operator".to_owned())
            }
            Form::Grouped(_) => {
                Err("expected InstanceNormalization between Reshape nodes, got another operator".to_owned())
            }
            Form::Shuffled { .. } => {
                Err("expected Transpose of groups between Reshape nodes, got another operator".to_owned())
            }
        }
    }

    /// Returns a computed operand, also one between two transposes.
    fn any_value(&self, node: &Node<'a>, index: usize) -> Read<Value> {
        match self.operand(node, index)? {
            Operand::Value(value) => Ok(value.clone()),
            Operand::Constant(_) => {
                Err(format!("expected operand {index} to depend on the input, got a constant"))
            }
        }
    }

    /// Returns a constant operand; `None` if it is left out.
    fn constant(&self, node: &Node<'a>, index: usize) -> Read<Option<&Tensor<'a>>> {
        if node.inputs.get(index).is_none_or(|name| name.is_empty()) {
            return Ok(None);
        }
        match self.operand(node, index)? {
            Operand::Constant(tensor) => Ok(Some(tensor)),
            Operand::Value(_) => {
                Err(format!("expected operand {index} to be a constant, got a computed value"))
            }
        }
    }

    fn floats(&mut self, node: &Node<'a>, index: usize) -> Read<(Vec<usize>, Vec<f32>)> {
        let tensor =
            self.constant(node, index)?.ok_or_else(|| format!("expected operand {index}, got none"))?;
        let (dims, values, filled) = (tensor.dims.clone(), tensor.to_floats()?, tensor.is_filled());
        if filled {
            self.filled = self.filled.saturating_add(values.len());
            if self.filled > MAX_FILLED {
                let got = self.filled;
                return Err(format!(
                    "expected at most {MAX_FILLED} elements of ConstantOfShape in a file, got {got}"
                ));
            }
        }
        Ok((dims, values))
    }

    /// Reads a node.
    fn node(&mut self, node: &Node<'a>, index: usize) -> Read<Operand<'a>> {
        if let Some(constant) = fold(node, |operand| self.known(node, operand))? {
            return Ok(Operand::Constant(constant));
        }
        let simple = |layer: Layer| Ok::<_, String>(Some(layer));
        let layer = match node.op {
            "Relu" => simple(Layer::Relu)?,
            "Sigmoid" => simple(Layer::Activation(Activation::Sigmoid))?,
            "Tanh" => simple(Layer::Activation(Activation::Tanh))?,
            "LeakyRelu" => {
                simple(Layer::Activation(Activation::LeakyRelu { slope: float(node, "alpha", 0.01)? }))?
            }
            "Gelu" => simple(Layer::Activation(match text(node, "approximate", "none")? {
                "tanh" => Activation::GeluTanh,
                _ => Activation::Gelu,
            }))?,
            "HardSwish" => simple(Layer::Activation(Activation::HardSwish))?,
            "HardSigmoid" => {
                let [alpha, beta] = [float(node, "alpha", 0.2)?, float(node, "beta", 0.5)?];
                // 1/6 as an f32.
                if (6.0 * alpha - 1.0).abs() > 1e-6 || beta != 0.5 {
                    return Err(format!("expected alpha = 1/6 and beta = 1/2, got {alpha} and {beta}"));
                }
                simple(Layer::Activation(Activation::HardSigmoid))?
            }
            "Clip" => simple(self.clip(node)?)?,
            "LRN" => simple(local_response_norm(node)?)?,
            "Dropout" => simple(self.dropout(node)?)?,
            _ => None,
        };
        if let Some(layer) = layer {
            let x = self.value(node, 0)?;
            return self.layer(node, index, layer, x).map(Operand::Value);
        }
        let value = match node.op {
            "Identity" | "Cast" => self.value(node, 0)?,
            "Conv" => self.conv(node, index)?,
            "ConvTranspose" => self.conv_transpose(node, index)?,
            "Resize" | "Upsample" => self.resize(node, index)?,
            "Gemm" | "MatMul" => self.dense(node, index)?,
            "BatchNormalization" => self.batch_norm(node, index)?,
            "MaxPool" | "AveragePool" | "GlobalMaxPool" => self.pool(node, index)?,
            "GlobalAveragePool" | "ReduceMean" => self.global_average(node, index)?,
            "Softmax" | "LogSoftmax" => self.softmax(node, index)?,
            "Add" | "Mul" if self.is_constant(node, 0) || self.is_constant(node, 1) => {
                self.scale(node, index)?
            }
            "Add" | "Sum" | "Mul" | "Concat" => self.join(node, index)?,
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(node, index)?,
            "Pad" => self.pad(node)?,
            "InstanceNormalization" | "GroupNormalization" => self.group_norm(node, index)?,
            "LayerNormalization" => self.layer_norm(node, index)?,
            "Transpose" => self.transpose(node)?,
            other => return Err(format!("{other} is supported for constants and shapes only")),
        };
        Ok(Operand::Value(value))
    }

    /// What is known of an operand without computing the network.
    fn known(&self, node: &Node<'a>, index: usize) -> Known<'_, 'a> {
        match self.operand(node, index) {
            Ok(Operand::Constant(tensor)) => Known::Constant(tensor),
            Ok(Operand::Value(value)) => Known::Shape(value.onnx_shape()),
            Err(_) => Known::Nothing,
        }
    }

    /// Returns a name that no other layer has.
    fn unique(&mut self, name: String) -> String {
        let name = match clean(&name) {
            name if ["mask.", "state.", "steps."].iter().any(|reserved| name.starts_with(reserved)) => {
                format!("layer.{name}")
            }
            name => name,
        };
        let mut free = name.clone();
        while self.names.contains_key(&free) {
            let number = self.names.entry(name.clone()).or_insert(2);
            free = format!("{name}_{number}");
            *number += 1;
        }
        self.names.insert(free.clone(), 2);
        free
    }

    /// Appends a layer without parameters.
    fn layer(&mut self, node: &Node<'a>, index: usize, layer: Layer, x: Value) -> Read<Value> {
        if x.pad != [0; 4] {
            return Err("expected a convolution after Pad, got another operator".to_owned());
        }
        let shape = layer.output(node.op, &[&x.shape]).map_err(|error| error.to_string())?;
        let name = self.unique(path_of(node, index));
        Ok(Value {
            builder: x.builder.layer(name, layer),
            shape,
            pooled: x.pooled,
            pad: [0; 4],
            form: Form::Plain,
        })
    }

    /// Appends a layer with parameters, or repeats the layer that has its weight.
    fn with_weights(
        &mut self,
        node: &Node<'a>,
        index: usize,
        layer: Layer,
        x: Value,
        weights: LayerWeights,
    ) -> Read<Value> {
        let shape = layer.output(node.op, &[&x.shape]).map_err(|error| error.to_string())?;
        let weight = node.inputs[1];
        let own = &node.inputs[1..];
        let builder = match self.shared.get(weight).cloned() {
            Some(first) if first.layer == layer && first.weights == own => {
                let name = self.unique(path_of(node, index));
                x.builder.repeat(&name, &first.builder)
            }
            Some(_) => {
                return Err(format!(
                    "expected layers that share {weight:?} to have the same attributes and bias"
                ));
            }
            None => {
                let module = weight.rsplit_once('.').filter(|(_, field)| {
                    matches!(*field, "weight" | "kernel" | "scale" | "gamma" | "w" | "W")
                });
                let name = match module {
                    Some((module, _)) if !module.is_empty() && !module.contains("::") => module.to_owned(),
                    _ => module_of(node, index),
                };
                let name = self.unique(name);
                for (field, shape, values) in weights {
                    self.weights.push(TorchTensor { name: format!("{name}.{field}"), shape, values });
                }
                let builder = x.builder.layer(name, layer.clone());
                let shared = Shared { builder: builder.clone(), layer, weights: own.to_vec() };
                self.shared.insert(weight, shared);
                builder
            }
        };
        Ok(Value { builder, shape, pooled: false, pad: [0; 4], form: Form::Plain })
    }

    /// Returns the bias that the only consumer of a node's result adds, if there is one with this many elements.
    fn bias_after(&mut self, node: &Node<'a>, outputs: usize) -> Read<Option<Vec<f32>>> {
        let output = node.outputs.first().copied().unwrap_or("");
        if self.uses.get(output) != Some(&1) {
            return Ok(None);
        }
        let Some(add) = self.additions.get(output) else { return Ok(None) };
        let Some(&other) = add.inputs.iter().find(|&&input| input != output) else { return Ok(None) };
        let Some(Operand::Constant(tensor)) = self.operands.get(other) else { return Ok(None) };
        // `[c]` is added to features; images need `[c, 1, 1]`.
        let fits = match (node.op, tensor.dims.as_slice()) {
            ("Conv" | "ConvTranspose" | "Mul", [c, 1, 1] | [1, c, 1, 1]) | ("MatMul", [c] | [1, c]) => {
                *c == outputs
            }
            _ => false,
        };
        if !fits || !tensor.is_float() {
            return Ok(None);
        }
        let values = tensor.to_floats()?;
        self.biases.extend(add.outputs.first());
        Ok(Some(values))
    }

    /// Makes the result of the addition that became a bias known under its own name, too.
    fn alias_bias(&mut self, node: &Node<'a>, value: &Value) -> Read<()> {
        let output = node.outputs.first().copied().unwrap_or("");
        let add = self.additions.get(output);
        match add.and_then(|add| add.outputs.first()) {
            Some(sum) if self.biases.contains(sum) => self.define(sum, Operand::Value(value.clone())),
            _ => Ok(()),
        }
    }

    /// Returns a value as an image `[h, w, c]`.
    fn image(&mut self, node: &Node<'a>, index: usize, x: Value) -> Read<Value> {
        match *x.shape {
            [_, _, _] => Ok(x),
            [c] if x.pooled => {
                let name = self.unique(format!("{}.image", path_of(node, index)));
                let shape = vec![1, 1, c];
                let builder = x.builder.layer(name, Layer::Reshape(shape.clone()));
                Ok(Value { builder, shape, pooled: false, ..x })
            }
            _ => Err(format!("expected images [n, c, h, w], got {:?} in each example", x.onnx_shape())),
        }
    }

    fn conv(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = self.value(node, 0)?;
        let x = self.image(node, index, x)?;
        let (dims, weight) = self.floats(node, 1)?;
        let &[c_out, per_group, kh, kw] = dims.as_slice() else {
            return Err(format!("expected a weight [c_out, c_in / groups, kh, kw], got {dims:?}"));
        };
        let groups = extent(int(node, "group", 1)?)?;
        if per_group.checked_mul(groups) != Some(x.shape[2]) {
            return Err(format!(
                "expected a weight for {} input channels in {groups} groups, got {dims:?}",
                x.shape[2]
            ));
        }
        let bias = match self.constant(node, 2)? {
            Some(_) => Some(self.floats(node, 2)?.1),
            None => self.bias_after(node, c_out)?,
        };
        self.folded |= node.inputs.get(1).is_some_and(|name| name.starts_with("onnx::Conv_"))
            || node.inputs.get(2).is_some_and(|name| name.ends_with(".weight_bias"));
        let mut conv = Conv2dLayer::new(c_out, [kh, kw])
            .padding(self.padding(node, x.pad, [kh, kw], &x.shape)?)
            .groups(groups)
            .bias(bias.is_some());
        if let Some(stride) = pair(node, "strides")? {
            conv = conv.stride(stride);
        }
        if let Some(dilation) = pair(node, "dilations")? {
            conv = conv.dilation(dilation);
        }
        let mut weights = vec![("weight", dims, weight)];
        weights.extend(bias.map(|bias| ("bias", vec![bias.len()], bias)));
        let value = self.with_weights(node, index, Layer::Conv2d(conv), x, weights)?;
        self.alias_bias(node, &value)?;
        Ok(value)
    }

    fn conv_transpose(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = self.value(node, 0)?;
        if x.pad != [0; 4] {
            return Err("expected a convolution after Pad, got another operator".to_owned());
        }
        let x = self.image(node, index, x)?;
        let (dims, weight) = self.floats(node, 1)?;
        let groups = extent(int(node, "group", 1)?)?;
        let &[c_in, per_group, kh, kw] = dims.as_slice() else {
            return Err(format!("expected a weight [c_in, c_out / groups, kh, kw], got {dims:?}"));
        };
        if c_in != x.shape[2] {
            return Err(format!("expected a weight for {} input channels, got {dims:?}", x.shape[2]));
        }
        let c_out = per_group.checked_mul(groups).ok_or("expected fewer groups")?;
        let bias = match self.constant(node, 2)? {
            Some(tensor) => Some(tensor.to_floats()?),
            None => self.bias_after(node, c_out)?,
        };
        let (stride, dilation) =
            (pair(node, "strides")?.unwrap_or([1, 1]), pair(node, "dilations")?.unwrap_or([1, 1]));
        let ([mut begin, mut end], mut extra) =
            (explicit_pads(node)?, pair(node, "output_padding")?.unwrap_or([0, 0]));
        let wanted = match (pair(node, "output_shape")?, text(node, "auto_pad", "NOTSET")?) {
            (Some(shape), _) => Some(shape),
            (None, "SAME_UPPER" | "SAME_LOWER") => {
                let size =
                    |axis: usize| x.shape[axis].checked_mul(stride[axis]).ok_or("expected smaller strides");
                Some([size(0)?, size(1)?])
            }
            (None, "NOTSET" | "" | "VALID") => None,
            (None, other) => return Err(format!("expected a known auto_pad, got {other}")),
        };
        if let Some(wanted) = wanted {
            let first = text(node, "auto_pad", "NOTSET")? == "SAME_UPPER";
            for (axis, kernel) in [kh, kw].into_iter().enumerate() {
                // These products and sums saturate far beyond the sizes that a layer accepts.
                let reach = kernel.saturating_sub(1).saturating_mul(dilation[axis]).saturating_add(1);
                let between = x.shape[axis].saturating_sub(1).saturating_mul(stride[axis]);
                let full = between.saturating_add(reach).saturating_add(extra[axis]);
                let total = full.saturating_sub(wanted[axis]);
                extra[axis] = extra[axis].saturating_add(wanted[axis].saturating_sub(full));
                begin[axis] = if first { total / 2 } else { total - total / 2 };
                end[axis] = total - begin[axis];
            }
        }
        let padding = Padding::Explicit { top: begin[0], bottom: end[0], left: begin[1], right: end[1] };
        let layer = ConvTranspose2dLayer::new(c_out, [kh, kw])
            .stride(stride)
            .dilation(dilation)
            .padding(if begin == [0, 0] && end == [0, 0] { Padding::Valid } else { padding })
            .output_padding(extra)
            .groups(groups)
            .bias(bias.is_some());
        let mut weights = vec![("weight", dims, weight)];
        weights.extend(bias.map(|bias| ("bias", vec![bias.len()], bias)));
        let value = self.with_weights(node, index, Layer::ConvTranspose2d(layer), x, weights)?;
        self.alias_bias(node, &value)?;
        Ok(value)
    }

    fn resize(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = self.value(node, 0)?;
        let x = self.image(node, index, x)?;
        // `Upsample` and the first `Resize` have the scales as operand 1, and the first `Upsample` as an attribute.
        let old = node.op == "Upsample" || self.file.opset < 11;
        let scales = match (node.attributes.get("scales"), self.constant(node, if old { 1 } else { 2 })?) {
            (Some(Attribute::Floats(scales)), _) => scales.clone(),
            (_, Some(tensor)) => tensor.to_floats()?,
            _ => Vec::new(),
        };
        let sizes = match self.constant(node, 3)? {
            Some(tensor) if !old => tensor.to_integers()?,
            _ => Vec::new(),
        };
        let layer = resize::layer(node, old, &scales, &sizes, &x.shape)?;
        self.layer(node, index, Layer::Upsample(layer), x)
    }

    fn dense(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = self.value(node, 0)?;
        if x.rank() != 2 {
            return Err(format!("expected features [n, in], got {:?} in each example", x.onnx_shape()));
        }
        if int(node, "transA", 0)? != 0 {
            return Err("expected transA = 0, got 1".to_owned());
        }
        let (dims, mut weight) = self.floats(node, 1)?;
        let &[rows, columns] = dims.as_slice() else {
            return Err(format!("expected a weight with 2 axes, got {dims:?}"));
        };
        // As PyTorch's [out, in].
        let dims = if int(node, "transB", 0)? != 0 {
            [rows, columns]
        } else {
            weight = (0..weight.len()).map(|i| weight[i % rows * columns + i / rows]).collect();
            [columns, rows]
        };
        if dims[1] != x.shape[0] {
            return Err(format!("expected a weight for {} input features, got {}", x.shape[0], dims[1]));
        }
        let alpha = float(node, "alpha", 1.0)? as f32;
        weight.iter_mut().filter(|_| alpha != 1.0).for_each(|w| *w *= alpha);
        let bias = match self.constant(node, 2)? {
            Some(_) => {
                let beta = float(node, "beta", 1.0)? as f32;
                let (_, mut bias) = self.floats(node, 2)?;
                bias.iter_mut().filter(|_| beta != 1.0).for_each(|b| *b *= beta);
                if bias.len() == 1 { Some(vec![bias[0]; dims[0]]) } else { Some(bias) }
            }
            None => self.bias_after(node, dims[0])?,
        };
        if bias.as_ref().is_some_and(|bias| bias.len() != dims[0]) {
            return Err(format!("expected a bias of {} elements", dims[0]));
        }
        let layer = Layer::Dense(DenseLayer::new(dims[0]).bias(bias.is_some()));
        let mut weights = vec![("weight", dims.to_vec(), weight)];
        weights.extend(bias.map(|bias| ("bias", vec![bias.len()], bias)));
        let value = self.with_weights(node, index, layer, x, weights)?;
        self.alias_bias(node, &value)?;
        Ok(value)
    }

    fn batch_norm(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = self.value(node, 0)?;
        let x = if x.pooled { self.image(node, index, x)? } else { x };
        let channels = x.shape.last().copied().unwrap_or(0);
        let mut weights = Vec::new();
        for (operand, field) in (1..).zip(["weight", "bias", "running_mean", "running_var"]) {
            let (dims, values) = self.floats(node, operand)?;
            if dims != [channels] {
                return Err(format!("expected {channels} elements in operand {operand}, got {dims:?}"));
            }
            weights.push((field, dims, values));
        }
        // ONNX's momentum is the weight of the old statistics.
        let momentum = 1.0 - float(node, "momentum", 0.9)?;
        // The difference of two decimal fractions, as a decimal fraction.
        let momentum = (momentum * 1e9).round() / 1e9;
        let norm = BatchNormLayer::new().epsilon(float(node, "epsilon", 1e-5)?).momentum(momentum);
        self.with_weights(node, index, Layer::BatchNorm(norm), x, weights)
    }

    /// Returns scale and shift of a norm, of this shape in ONNX's layout.
    fn scale_and_shift(&mut self, node: &Node<'a>, shape: &[usize]) -> Read<LayerWeights> {
        let mut weights = Vec::new();
        for (operand, field) in [(1, "weight"), (2, "bias")] {
            let is_absent = self.constant(node, operand)?.is_none();
            let (dims, values) = if is_absent && operand == 2 {
                (shape.to_vec(), vec![0.0; shape.iter().product()])
            } else {
                self.floats(node, operand)?
            };
            if dims != shape {
                return Err(format!("expected a tensor {shape:?} as operand {operand}, got {dims:?}"));
            }
            weights.push((field, dims, values));
        }
        Ok(weights)
    }

    /// Reads the normalization of images reshaped to `[n, groups, -1]`: PyTorch's exporters write a group norm as this,
    /// a reshape back, a product with the scale and a sum with the shift.
    fn reshaped_group_norm(&mut self, node: &Node<'a>, index: usize, groups: usize) -> Read<Value> {
        let x = Value { form: Form::Plain, ..self.any_value(node, 0)? };
        for (operand, expected) in [(1, 1.0f32), (2, 0.0)] {
            let (_, values) = self.floats(node, operand)?;
            if values.len() != groups || values.iter().any(|&value| value != expected) {
                return Err(format!("expected {groups} times {expected} as operand {operand}, got others"));
            }
        }
        let norm = GroupNormLayer::new(groups).epsilon(float(node, "epsilon", 1e-5)?);
        let channels = x.shape.last().copied().unwrap_or(0);
        let Some((scale, shift, parts)) = self.scale_and_shift_after(node, channels) else {
            let value = self.layer(node, index, Layer::GroupNorm(norm.affine(false)), x)?;
            return Ok(Value { form: Form::Grouped(groups), ..value });
        };
        let whole = Node { inputs: vec![node.inputs[0], scale, shift], ..node.clone() };
        let mut weights = Vec::new();
        for (operand, field) in [(1, "weight"), (2, "bias")] {
            weights.push((field, vec![channels], self.floats(&whole, operand)?.1));
        }
        let value = self.with_weights(&whole, index, Layer::GroupNorm(norm), x, weights)?;
        self.biases.extend(parts);
        self.define(parts[2], Operand::Value(value.clone()))?;
        Ok(Value { form: Form::Grouped(groups), ..value })
    }

    /// Returns the names of the scale and the shift that follow a normalization and a reshape, and the results of the
    /// reshape, the product and the sum, if nothing else reads what comes before the last.
    fn scale_and_shift_after(
        &self,
        node: &Node<'a>,
        channels: usize,
    ) -> Option<(&'a str, &'a str, [&'a str; 3])> {
        let next = |name: &'a str, op: &str| {
            let reader = *self.readers.get(name).filter(|_| self.uses.get(name) == Some(&1))?;
            Some((reader, *reader.outputs.first()?)).filter(|_| reader.op == op)
        };
        let constant = |reader: &Node<'a>, value: &str| {
            let other = *reader.inputs.iter().find(|&&input| input != value)?;
            let Some(Operand::Constant(tensor)) = self.operands.get(other) else { return None };
            let of_channels = matches!(*tensor.dims, [c, 1, 1] | [1, c, 1, 1] if c == channels);
            (of_channels && tensor.is_float()).then_some(other)
        };
        let normalized = *node.outputs.first()?;
        let (_, images) = next(normalized, "Reshape")?;
        let (mul, product) = next(images, "Mul")?;
        let (add, sum) = next(product, "Add")?;
        Some((constant(mul, images)?, constant(add, product)?, [images, product, sum]))
    }

    fn group_norm(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        if let (Form::Grouped(groups), "InstanceNormalization") = (self.any_value(node, 0)?.form, node.op) {
            return self.reshaped_group_norm(node, index, groups);
        }
        let x = self.value(node, 0)?;
        let x = self.image(node, index, x)?;
        let channels = x.shape[2];
        let groups = match node.op {
            "InstanceNormalization" => channels,
            // Before, scale and shift were those of groups.
            _ if self.file.opset < 21 => {
                return Err(format!(
                    "expected version 21 of the operators or later, got {}",
                    self.file.opset
                ));
            }
            _ => extent(int(node, "num_groups", 0)?)?,
        };
        let norm = GroupNormLayer::new(groups).epsilon(float(node, "epsilon", 1e-5)?);
        let weights = self.scale_and_shift(node, &[channels])?;
        self.with_weights(node, index, Layer::GroupNorm(norm), x, weights)
    }

    fn layer_norm(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = self.any_value(node, 0)?;
        let rank = x.rank() as i64;
        let axis = match int(node, "axis", -1)? {
            axis if axis < 0 => axis + rank,
            axis => axis,
        };
        // All axes but the batch, or the channels.
        let channels_last = match x.form {
            Form::Plain => false,
            Form::ChannelsLast => true,
            Form::Grouped(_) | Form::Shuffled { .. } => {
                return Err("expected no LayerNormalization between Reshape nodes".to_owned());
            }
        };
        let over_examples = axis == 1 && !channels_last && x.shape.len() > 1;
        if !(over_examples || (axis == rank - 1 && (channels_last || x.shape.len() == 1 && !x.pooled))) {
            let shape = x.onnx_shape();
            return Err(format!(
                "expected all axes of examples {shape:?}, or the channels as last axis, got axis {axis}"
            ));
        }
        let shape = if over_examples { x.onnx_shape() } else { x.shape[x.shape.len() - 1..].to_vec() };
        let weights = self.scale_and_shift(node, &shape)?;
        let norm = LayerNormLayer::new().epsilon(float(node, "epsilon", 1e-5)?).over_examples(over_examples);
        let form = x.form;
        let value = self.with_weights(node, index, Layer::LayerNorm(norm), x, weights)?;
        Ok(Value { form, ..value })
    }

    /// Reads a transpose of images to or from NHWC, which is this crate's layout, or of the groups of a channel shuffle.
    fn transpose(&self, node: &Node<'a>) -> Read<Value> {
        let x = self.any_value(node, 0)?;
        match (node.attributes.get("perm"), x.form) {
            (Some(Attribute::Ints(axes)), Form::Plain) if **axes == [0, 2, 3, 1] && x.shape.len() == 3 => {
                Ok(Value { form: Form::ChannelsLast, ..x })
            }
            (Some(Attribute::Ints(axes)), Form::ChannelsLast) if **axes == [0, 3, 1, 2] => {
                Ok(Value { form: Form::Plain, ..x })
            }
            (Some(Attribute::Ints(axes)), Form::Shuffled { groups, turned: false })
                if **axes == [0, 2, 1, 3, 4] =>
            {
                Ok(Value { form: Form::Shuffled { groups, turned: true }, ..x })
            }
            (axes, _) => Err(format!("expected images from NCHW to NHWC or back, got the axes {axes:?}")),
        }
    }

    fn pool(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = self.value(node, 0)?;
        let x = self.image(node, index, x)?;
        let kernel = match node.op {
            "GlobalMaxPool" => [x.shape[0], x.shape[1]],
            _ => pair(node, "kernel_shape")?.ok_or("expected the attribute kernel_shape, got none")?,
        };
        let padding = self.padding(node, [0; 4], kernel, &x.shape)?;
        let stride = pair(node, "strides")?.unwrap_or(match node.op {
            "GlobalMaxPool" => kernel,
            _ => [1, 1],
        });
        let dilation = pair(node, "dilations")?.unwrap_or([1, 1]);
        let pool = Pool2dLayer::new(kernel).stride(stride).dilation(dilation).padding(padding);
        let pool = pool.round_up(int(node, "ceil_mode", 0)? != 0);
        let layer = match node.op {
            "AveragePool" => Layer::AvgPool2d(pool.count_padding(int(node, "count_include_pad", 0)? != 0)),
            _ => Layer::MaxPool2d(pool),
        };
        self.layer(node, index, layer, x)
    }

    fn global_average(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = self.value(node, 0)?;
        let mut keep = true;
        if node.op == "ReduceMean" {
            let mut axes = match (node.attributes.get("axes"), self.constant(node, 1)?) {
                (Some(Attribute::Ints(axes)), _) => axes.clone(),
                (_, Some(tensor)) => tensor.to_integers()?,
                _ => Vec::new(),
            };
            axes.iter_mut().filter(|axis| **axis < 0).for_each(|axis| *axis += 4);
            axes.sort_unstable();
            if axes != [2, 3] || x.rank() != 4 {
                return Err(format!("expected the axes 2 and 3 of images, got {axes:?}"));
            }
            keep = int(node, "keepdims", 1)? != 0;
        }
        if x.pooled {
            return Ok(Value { pooled: keep, ..x });
        }
        let x = self.image(node, index, x)?;
        let value = self.layer(node, index, Layer::GlobalAvgPool, x)?;
        Ok(Value { pooled: keep, ..value })
    }

    fn softmax(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = self.value(node, 0)?;
        let layer = if node.op == "Softmax" { Layer::Softmax } else { Layer::LogSoftmax };
        let default = if self.file.opset < 13 { 1 } else { -1 };
        match (x.rank(), int(node, "axis", default)?) {
            (2, 1 | -1) => self.layer(node, index, layer, x),
            // All but one of the axes have the extent 1.
            (4, 1 | -3) if x.pooled => self.layer(node, index, layer, x),
            (rank, axis) => Err(format!("expected features and axis 1, got {rank} axes and axis {axis}")),
        }
    }

    fn clip(&self, node: &Node<'a>) -> Read<Layer> {
        let limit = |name: &str, operand: usize, default: f64| match self.constant(node, operand)? {
            Some(tensor) => {
                Ok::<_, String>(tensor.to_floats()?.first().map_or(default, |&value| decimal(value)))
            }
            None => float(node, name, default),
        };
        // ONNX's defaults.
        let (lowest, highest) = (f64::from(f32::MIN), f64::from(f32::MAX));
        let (min, max) = (limit("min", 1, lowest)?, limit("max", 2, highest)?);
        match (min, max) {
            (0.0, max) if max >= highest => Ok(Layer::Relu),
            (0.0, 6.0) => Ok(Layer::Activation(Activation::Relu6)),
            (min, max) if min < max => Ok(Layer::Activation(Activation::Clamp { min, max })),
            _ => Err(format!("expected limits min < max, got {min} and {max}")),
        }
    }

    fn dropout(&self, node: &Node<'a>) -> Read<Layer> {
        let rate = match self.constant(node, 1)? {
            Some(tensor) => tensor.to_floats()?.first().map_or(0.5, |&rate| decimal(rate)),
            None => float(node, "ratio", 0.5)?,
        };
        Ok(Layer::Dropout { rate })
    }

    fn is_constant(&self, node: &Node<'a>, index: usize) -> bool {
        matches!(self.operand(node, index), Ok(Operand::Constant(_)))
    }

    /// Multiplies images by a constant for each channel, or adds one: a depthwise 1x1 convolution.
    fn scale(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let mut node = node.clone();
        if self.is_constant(&node, 0) {
            node.inputs.swap(0, 1);
        }
        let x = self.value(&node, 0)?;
        if x.pad != [0; 4] {
            return Err("expected a convolution after Pad, got another operator".to_owned());
        }
        let x = self.image(&node, index, x)?;
        let channels = x.shape[2];
        let (dims, values) = self.floats(&node, 1)?;
        let values = match dims.as_slice() {
            [] | [1] => vec![values[0]; channels],
            [c, 1, 1] | [1, c, 1, 1] if *c == channels => values,
            _ => {
                return Err(format!(
                    "expected a number, or a constant for each channel [{channels}, 1, 1], got {dims:?}"
                ));
            }
        };
        let (factors, bias) = match node.op {
            "Add" => (vec![1.0; channels], Some(values)),
            _ => (values, self.bias_after(&node, channels)?),
        };
        let layer = Conv2dLayer::new(channels, [1, 1]).groups(channels).bias(bias.is_some());
        let mut weights = vec![("weight", vec![channels, 1, 1, 1], factors)];
        weights.extend(bias.map(|bias| ("bias", vec![channels], bias)));
        let value = self.with_weights(&node, index, Layer::Conv2d(layer), x, weights)?;
        self.alias_bias(&node, &value)?;
        Ok(value)
    }

    fn join(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let operands: Vec<_> = (0..node.inputs.len()).map(|i| self.value(node, i)).collect::<Read<_>>()?;
        let layer = match node.op {
            "Mul" => Layer::Mul,
            "Concat" => Layer::Concat,
            _ => Layer::Add,
        };
        let first = operands.first().ok_or("expected operands, got none")?;
        let axis = if layer == Layer::Concat { int(node, "axis", 1)? } else { 1 };
        if axis != 1 && axis != 1 - first.rank() as i64 {
            return Err(format!("expected axis 1, the channels, got {axis}"));
        }
        let shapes: Vec<_> = operands.iter().map(|value| value.shape.as_slice()).collect();
        let shape = layer.output(node.op, &shapes).map_err(|error| error.to_string())?;
        let mut all = operands.into_iter();
        let first = all.next().ok_or("expected operands, got none")?;
        let others: Vec<_> = all.collect();
        // Values `[n, c]` are no factors of the channels of images, unlike `[n, c, 1, 1]`.
        let rank = first.rank();
        if others.iter().any(|other| other.rank() != rank || other.pad != [0; 4]) || first.pad != [0; 4] {
            return Err("expected operands of one shape, without a Pad before".to_owned());
        }
        let pooled = first.pooled && shape.len() == 1;
        let name = self.unique(path_of(node, index));
        let builder = first.builder.join(name, layer, others.into_iter().map(|other| other.builder));
        Ok(Value { builder, shape, pooled, pad: [0; 4], form: Form::Plain })
    }

    fn reshape(&mut self, node: &Node<'a>, index: usize) -> Read<Value> {
        let x = match self.any_value(node, 0)? {
            part if matches!(part.form, Form::Grouped(_) | Form::Shuffled { .. }) => part,
            _ => self.value(node, 0)?,
        };
        let old: Vec<i64> = [BATCH].into_iter().chain(x.onnx_shape().iter().map(|&e| e as i64)).collect();
        let wanted = match node.op {
            "Flatten" => match int(node, "axis", 1)? {
                1 => vec![BATCH, -1],
                axis => return Err(format!("expected axis 1, got {axis}")),
            },
            "Reshape" => {
                let mut shape = self.constant(node, 1)?.ok_or("expected a shape, got none")?.to_integers()?;
                let copied = |(at, extent): (usize, &mut i64)| {
                    if *extent == 0 {
                        *extent = old.get(at).copied().unwrap_or(0);
                    }
                };
                shape.iter_mut().enumerate().for_each(copied);
                // The first extent is that of the batch, as a number or -1, unless the rest is not known.
                if let [first, rest @ ..] = shape.as_mut_slice()
                    && !rest.contains(&-1)
                {
                    *first = BATCH;
                }
                if let [first, ..] = shape.as_mut_slice()
                    && *first > 0
                {
                    *first = BATCH;
                }
                shape
            }
            // Axes of extent 1 alone are taken out or put in.
            _ => {
                let axes = match (node.attributes.get("axes"), self.constant(node, 1)?) {
                    (Some(Attribute::Ints(axes)), _) => axes.clone(),
                    (_, Some(tensor)) => tensor.to_integers()?,
                    _ => Vec::new(),
                };
                match (node.op, axes.as_slice(), x.rank()) {
                    ("Squeeze", [2, 3] | [-2, -1] | [-1, -2] | [3, 2], 4) => vec![BATCH, -1],
                    ("Unsqueeze", [2, 3] | [-2, -1] | [-1, -2] | [3, 2], 2) => vec![BATCH, -1, 1, 1],
                    _ => return Err(format!("expected the axes 2 and 3, got {axes:?}")),
                }
            }
        };
        let elements: i64 = old[1..].iter().product();
        match (wanted.as_slice(), x.shape.as_slice()) {
            (shape, _) if shape == old => match x.form {
                Form::Shuffled { groups, turned: true } => {
                    let x = Value { form: Form::Plain, ..x };
                    self.layer(node, index, Layer::ChannelShuffle { groups }, x)
                }
                _ => Ok(Value { form: Form::Plain, ..x }),
            },
            _ if x.form != Form::Plain => {
                Err(format!("expected a reshape back to {}, got {}", shape_text(&old), shape_text(&wanted)))
            }
            (&[BATCH, groups, rest], &[_, _, c])
                if node.op == "Reshape"
                    && extent(groups).is_ok_and(|groups| groups > 0 && c % groups == 0) =>
            {
                let groups = extent(groups)?;
                if rest != -1 && extent(rest)?.checked_mul(groups) != Some(elements as usize) {
                    let (wanted, old) = (shape_text(&wanted), shape_text(&old));
                    return Err(format!("expected a reshape to [n, groups, -1], got {wanted} from {old}"));
                }
                Ok(Value { form: Form::Grouped(groups), ..x })
            }
            ([BATCH, groups, rest @ ..], &[h, w, c]) if is_shuffle(*groups, rest, [h, w, c]) => {
                Ok(Value { form: Form::Shuffled { groups: extent(*groups)?, turned: false }, ..x })
            }
            ([BATCH, features], &[_]) if [elements, -1].contains(features) => {
                Ok(Value { pooled: false, ..x })
            }
            ([BATCH, features], &[_, _, _]) if [elements, -1].contains(features) => {
                self.layer(node, index, Layer::Flatten, x)
            }
            ([BATCH, features, 1, 1], &[_]) if [elements, -1].contains(features) => {
                Ok(Value { pooled: true, ..x })
            }
            _ => {
                let (wanted, old) = (shape_text(&wanted), shape_text(&old));
                Err(format!("expected a reshape to features [n, -1], got {wanted} from {old}"))
            }
        }
    }

    fn pad(&self, node: &Node<'a>) -> Read<Value> {
        let mut x = self.value(node, 0)?;
        let pads = match (node.attributes.get("pads"), self.constant(node, 1)?) {
            (Some(Attribute::Ints(pads)), _) => pads.clone(),
            (_, Some(tensor)) => tensor.to_integers()?,
            _ => Vec::new(),
        };
        let fill = match self.constant(node, 2)? {
            Some(tensor) => tensor.to_floats()?.first().copied().unwrap_or(0.0),
            None => float(node, "value", 0.0)? as f32,
        };
        match *pads {
            [0, 0, top, left, 0, 0, bottom, right]
                if text(node, "mode", "constant")? == "constant" && fill == 0.0 && x.shape.len() == 3 =>
            {
                for (sum, pad) in x.pad.iter_mut().zip([top, left, bottom, right]) {
                    *sum = sum.checked_add(extent(pad)?).ok_or("expected smaller padding")?;
                }
                Ok(x)
            }
            _ => Err(format!("expected zeros around rows and columns of images, got {pads:?}")),
        }
    }

    /// Returns the padding of a window, with that of a `Pad` before it.
    fn padding(
        &self,
        node: &Node<'a>,
        before: [usize; 4],
        kernel: [usize; 2],
        shape: &[usize],
    ) -> Read<Padding> {
        let [[top, left], [bottom, right]] = explicit_pads(node)?;
        let explicit = [top, left, bottom, right];
        match text(node, "auto_pad", "NOTSET")? {
            "NOTSET" | "" | "VALID" => {}
            "SAME_UPPER" if before == [0; 4] => return Ok(Padding::Same),
            other => {
                return Err(format!(
                    "expected auto_pad NOTSET, VALID or SAME_UPPER for {kernel:?} on {shape:?}, got {other}"
                ));
            }
        }
        let mut all = explicit;
        for (pad, before) in all.iter_mut().zip(before) {
            *pad = pad.checked_add(before).ok_or("expected smaller padding")?;
        }
        let [top, left, bottom, right] = all;
        Ok(if all == [0; 4] { Padding::Valid } else { Padding::Explicit { top, bottom, left, right } })
    }
}

/// Whether images `[h, w, c]` become `groups` groups of channels: `rest` is `[c / groups, h, w]` in ONNX's layout.
fn is_shuffle(groups: i64, rest: &[i64], [h, w, c]: [usize; 3]) -> bool {
    let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0 && c.is_multiple_of(groups));
    let same = |(&wanted, extent): (&i64, usize)| wanted == -1 || usize::try_from(wanted) == Ok(extent);
    let one_unknown = rest.iter().filter(|&&extent| extent == -1).count() < 2;
    groups
        .is_some_and(|groups| rest.len() == 3 && one_unknown && rest.iter().zip([c / groups, h, w]).all(same))
}

/// Reads `LRN`.
fn local_response_norm(node: &Node) -> Read<Layer> {
    let size = extent(int(node, "size", 0)?)?;
    if size.is_multiple_of(2) {
        return Err(format!("expected an odd size, got {size}"));
    }
    let layer = LocalResponseNormLayer::new(size)
        .alpha(float(node, "alpha", 1e-4)?)
        .beta(float(node, "beta", 0.75)?)
        .k(float(node, "bias", 1.0)?);
    Ok(Layer::LocalResponseNorm(layer))
}

/// Returns the attribute `pads`: rows and columns before, and after.
fn explicit_pads(node: &Node) -> Read<[[usize; 2]; 2]> {
    match node.attributes.get("pads") {
        None => Ok([[0; 2]; 2]),
        Some(Attribute::Ints(pads)) => match *pads.as_slice() {
            [top, left, bottom, right] => {
                Ok([[extent(top)?, extent(left)?], [extent(bottom)?, extent(right)?]])
            }
            _ => Err(format!("expected four pads, got {pads:?}")),
        },
        Some(other) => Err(format!("attribute pads: expected integers, got {other:?}")),
    }
}
