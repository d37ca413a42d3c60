//! Writes a model with its parameters as an ONNX file.

use super::proto::Message;
use crate::error::{Error, Result};
use crate::file;
use crate::graph::Activation;
use crate::interop::torch::{TorchStateDict, TorchTensor};
use crate::layer::{Layer, LayerNormLayer, Pool2dLayer, UpsampleLayer, Upsampling};
use crate::mask::Mask;
use crate::model::{Model, NamedLayer, Source};
use crate::shape::WindowGeometry;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// Version of the operators, and the version of the file format that belongs to it: the first with `Gelu`, or with
/// `GroupNormalization` by scale and shift of channels.
const OPSET: [i64; 2] = [20, 9];
const OPSET_OF_GROUP_NORM: [i64; 2] = [21, 10];

/// Numbers of the element types in ONNX.
const FLOAT: i64 = 1;
const INT64: i64 = 7;
const BOOL: i64 = 9;

/// Writes a model to an ONNX file that runs in evaluation mode: batch norms use their running statistics, dropout
/// is the identity. Images are NCHW `[batch, c, h, w]`, and weights have the names and layouts of a PyTorch state
/// dict. Norms of examples without scale and shift get constants of 1 and 0. The file is replaced atomically.
///
/// `parameters` are the values of all parameters, as from [`Trainer::parameters`](crate::Trainer::parameters).
/// `masks` are written as bool tensors `mask.NAME` (`true` = frozen) that no operator reads, in the layout of the
/// weight `NAME`.
///
/// ```
/// use frazil::interop::{read_onnx, write_onnx};
/// use frazil::{Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
///
/// let gpu = Gpu::new(GpuOptions::default())?;
/// let options = TrainerOptions::batch(64);
/// let trainer = Trainer::new(&gpu, Model::digits()?, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options)?;
/// let file = std::env::temp_dir().join("frazil-digits.onnx");
/// write_onnx(&file, trainer.model(), &trainer.parameters()?, &[])?;
/// assert_eq!(read_onnx(&file)?.parameters, trainer.parameters()?);
/// # std::fs::remove_file(&file).unwrap();
/// # Ok::<(), frazil::Error>(())
/// ```
///
/// # Errors
/// - [`Error::UnknownParameter`] and [`Error::ShapeMismatch`] for values or masks that do not fit, and
///   [`Error::InvalidArgument`] if a parameter has no values.
/// - [`Error::InvalidArgument`] for a layer that has no counterpart in ONNX's layout.
/// - [`Error::Io`].
pub fn write_onnx<P: AsRef<str>>(
    file: impl AsRef<Path>,
    model: &Model,
    parameters: &[(P, Vec<f32>)],
    masks: &[(String, Mask)],
) -> Result<()> {
    let names = TorchStateDict::new(model)?;
    let mut writer = Writer { nodes: Vec::new(), initializers: Vec::new(), model, fields: names.fields() };
    for TorchTensor { name, shape, values } in names.export(parameters)? {
        let bytes: Vec<_> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.initializer(&name, &shape, FLOAT, &bytes);
    }
    for TorchTensor { name, shape, values } in names.export_masks(masks)? {
        writer.initializer(&format!("mask.{name}"), &shape, BOOL, &values);
    }
    let graph = writer.graph()?;
    let has_group_norm = model.layers().iter().any(|named| matches!(named.layer(), Layer::GroupNorm(_)));
    let [opset, ir_version] = if has_group_norm { OPSET_OF_GROUP_NORM } else { OPSET };
    let opset = Message::default().bytes(1, b"").integer(2, opset);
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let onnx = Message::default().integer(1, ir_version).bytes(2, b"frazil").bytes(3, version);
    file::write_atomically(file.as_ref(), &onnx.message(7, graph).message(8, opset).into_bytes())
}

struct Writer<'m> {
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    model: &'m Model,
    /// Name in the state dict by path.
    fields: HashMap<String, String>,
}

/// An attribute of a node.
enum Attribute<'a> {
    Int(i64),
    Float(f64),
    Text(&'a str),
    Ints(Vec<i64>),
}

impl Attribute<'_> {
    fn message(&self, name: &str) -> Message {
        let message = Message::default().bytes(1, name.as_bytes());
        match self {
            Attribute::Float(value) => message.float(2, *value as f32).integer(20, 1),
            Attribute::Int(value) => message.integer(3, *value).integer(20, 2),
            Attribute::Text(value) => message.bytes(4, value.as_bytes()).integer(20, 3),
            Attribute::Ints(values) => {
                values.iter().fold(message, |message, &value| message.integer(8, value)).integer(20, 7)
            }
        }
    }
}

impl Writer<'_> {
    fn initializer(&mut self, name: &str, shape: &[usize], dtype: i64, bytes: &[u8]) {
        let dims =
            shape.iter().fold(Message::default(), |message, &extent| message.integer(1, extent as i64));
        self.initializers.push(dims.integer(2, dtype).bytes(8, name.as_bytes()).bytes(9, bytes));
    }

    fn node(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[String],
        output: &str,
        attributes: &[(&str, Attribute)],
    ) {
        let message =
            inputs.iter().fold(Message::default(), |message, input| message.bytes(1, input.as_bytes()));
        let message = message.bytes(2, output.as_bytes()).bytes(3, name.as_bytes()).bytes(4, op.as_bytes());
        let attributes = attributes.iter().map(|(name, value)| value.message(name));
        self.nodes.push(message.messages(5, attributes));
    }

    /// Returns the graph with all layers.
    fn graph(mut self) -> Result<Message> {
        let (model, mut names) = (self.model, BTreeSet::new());
        let inputs: Vec<_> = model.inputs().iter().map(|(name, _)| name.clone()).collect();
        names.extend(inputs.iter().cloned());
        let value = |source: &Source| match *source {
            Source::Input(index) => inputs[index].clone(),
            Source::Layer(index) => format!("{}:out", model.layers()[index].name()),
        };
        for layer in model.layers() {
            let operands: Vec<_> = layer.inputs().iter().map(value).collect();
            let shapes: Vec<_> = layer.inputs().iter().filter_map(|&source| model.shape(source)).collect();
            self.layer(layer, &operands, &shapes)?;
        }
        let mut outputs = Vec::new();
        for (index, source) in model.outputs().iter().enumerate() {
            let wanted = if index == 0 { "output".to_owned() } else { format!("output{index}") };
            let numbered = (2..).map(|number| format!("{wanted}_{number}"));
            let free = [wanted.clone()].into_iter().chain(numbered).find(|name| !names.contains(name));
            let name = free.unwrap_or(wanted);
            names.insert(name.clone());
            self.node(&format!("{name}/Identity"), "Identity", &[value(source)], &name, &[]);
            outputs.push(value_info(&name, model.shape(*source).unwrap_or(&[])));
        }
        let inputs = model.inputs().iter().map(|(name, shape)| value_info(name, shape));
        let graph =
            Message::default().messages(1, self.nodes).bytes(2, b"frazil").messages(5, self.initializers);
        Ok(graph.messages(11, inputs).messages(12, outputs))
    }

    fn clip(&mut self, name: &str, operands: &[String], output: &str, limits: [f64; 2]) {
        let mut inputs = operands.to_vec();
        for (side, limit) in ["min", "max"].into_iter().zip(limits) {
            let constant = format!("{name}:{side}");
            self.initializer(&constant, &[], FLOAT, &(limit as f32).to_le_bytes());
            inputs.push(constant);
        }
        self.node(name, "Clip", &inputs, output, &[]);
    }

    fn resize(
        &mut self,
        name: &str,
        layer: &UpsampleLayer,
        input: &[usize],
        operands: &[String],
        output: &str,
    ) -> Result<()> {
        let axes = layer.resolve(name, input)?.axes;
        let constant = format!("{name}:size");
        let mut inputs = vec![operands[0].clone(), String::new()];
        match layer.scale() {
            Some(scale) => {
                let scale = scale.map(|factor| factor as f32);
                let rounded = |axis: usize| (axes[axis].input as f32 * scale[axis]) as usize;
                if [rounded(0), rounded(1)] != axes.map(|axis| axis.output) {
                    let expected = "factors that give the same size as f32, which ONNX has; use a size";
                    return Err(Error::argument(name, expected, format!("{scale:?}")));
                }
                let bytes: Vec<_> = scale.iter().flat_map(|factor| factor.to_le_bytes()).collect();
                self.initializer(&constant, &[2], FLOAT, &bytes);
            }
            None => {
                let bytes: Vec<_> = axes.iter().flat_map(|axis| (axis.output as i64).to_le_bytes()).collect();
                self.initializer(&constant, &[2], INT64, &bytes);
                inputs.push(String::new());
            }
        }
        inputs.push(constant);
        let (mode, coordinates) = match layer.upsampling() {
            Upsampling::Nearest => ("nearest", "asymmetric"),
            Upsampling::Bilinear => ("linear", "half_pixel"),
            Upsampling::BilinearCorners => ("linear", "align_corners"),
        };
        let attributes = [
            ("axes", Attribute::Ints(vec![2, 3])),
            ("mode", Attribute::Text(mode)),
            ("coordinate_transformation_mode", Attribute::Text(coordinates)),
            ("nearest_mode", Attribute::Text("floor")),
        ];
        self.node(name, "Resize", &inputs, output, &attributes);
        Ok(())
    }

    /// Writes a product; factors `[n, c]` of the channels of images become `[n, c, 1, 1]`.
    fn mul(&mut self, name: &str, operands: &[String], output: &str, shapes: &[&[usize]]) {
        let mut operands = operands.to_vec();
        if let Some(factors) = shapes.iter().position(|shape| shape.len() == 1)
            && shapes.iter().any(|shape| shape.len() == 3)
        {
            let (axes, unsqueezed) = (format!("{name}:axes"), format!("{name}:factors"));
            let bytes: Vec<_> = [2i64, 3].iter().flat_map(|axis| axis.to_le_bytes()).collect();
            self.initializer(&axes, &[2], INT64, &bytes);
            let inputs = [operands[factors].clone(), axes];
            self.node(&format!("{name}/Unsqueeze"), "Unsqueeze", &inputs, &unsqueezed, &[]);
            operands[factors] = unsqueezed;
        }
        self.node(name, "Mul", &operands, output, &[]);
    }

    /// Writes a shuffle of channels as PyTorch exports it: a reshape to groups, a transpose, a reshape back.
    fn channel_shuffle(
        &mut self,
        name: &str,
        groups: usize,
        input: &[usize],
        operands: &[String],
        output: &str,
    ) {
        let [h, w, c] = [0, 1, 2].map(|axis| input[axis] as i64);
        let g = groups as i64;
        let [grouped, turned] = ["grouped", "turned"].map(|step| format!("{name}:{step}"));
        self.reshape(&format!("{name}/Groups"), operands, &grouped, &[0, g, c / g, h, w]);
        let axes = [("perm", Attribute::Ints(vec![0, 2, 1, 3, 4]))];
        self.node(&format!("{name}/Transpose"), "Transpose", &[grouped], &turned, &axes);
        self.reshape(name, &[turned], output, &[0, c, h, w]);
    }

    fn reshape(&mut self, name: &str, operands: &[String], output: &str, dims: &[i64]) {
        let constant = format!("{name}:shape");
        let bytes: Vec<_> = dims.iter().flat_map(|extent| extent.to_le_bytes()).collect();
        self.initializer(&constant, &[dims.len()], INT64, &bytes);
        self.node(name, "Reshape", &[operands, &[constant]].concat(), output, &[]);
    }

    /// Returns the operands of a norm: constants instead of parameters that it does not have.
    fn scale_and_shift(&mut self, name: &str, operands: &[String], shape: &[usize]) -> Vec<String> {
        let mut operands = operands.to_vec();
        if operands.len() == 1 {
            for (field, value) in [("scale", 1.0f32), ("shift", 0.0)] {
                let constant = format!("{name}:{field}");
                let bytes = value.to_le_bytes().repeat(shape.iter().product());
                self.initializer(&constant, shape, FLOAT, &bytes);
                operands.push(constant);
            }
        }
        operands
    }

    fn layer_norm(
        &mut self,
        name: &str,
        norm: &LayerNormLayer,
        operands: &[String],
        output: &str,
        input: &[usize],
    ) {
        let normalized = match *input {
            [h, w, c] if norm.over_examples => vec![c, h, w],
            _ => input[input.len().saturating_sub(1)..].to_vec(),
        };
        let mut inputs = self.scale_and_shift(name, operands, &normalized);
        let attributes = [
            ("epsilon", Attribute::Float(norm.epsilon)),
            ("axis", Attribute::Int(-(normalized.len() as i64))),
        ];
        if input.len() != 3 || norm.over_examples {
            self.node(name, "LayerNormalization", &inputs, output, &attributes);
            return;
        }
        // The channels of images are the last axis of NHWC.
        let permuted = |axes: [i64; 4]| [("perm", Attribute::Ints(axes.to_vec()))];
        let [nhwc, normalized] = ["nhwc", "normalized"].map(|step| format!("{name}:{step}"));
        let images = std::mem::replace(&mut inputs[0], nhwc.clone());
        self.node(&format!("{name}/Transpose"), "Transpose", &[images], &nhwc, &permuted([0, 2, 3, 1]));
        self.node(name, "LayerNormalization", &inputs, &normalized, &attributes);
        self.node(&format!("{name}/NCHW"), "Transpose", &[normalized], output, &permuted([0, 3, 1, 2]));
    }

    fn layer(&mut self, named: &NamedLayer, operands: &[String], shapes: &[&[usize]]) -> Result<()> {
        use Attribute::{Float, Int, Text};
        let name = named.name();
        let output = format!("{name}:out");
        let parameters = &self.model.parameters()[named.parameters()];
        let field = |parameter: &crate::layer::ParameterSpec| self.fields.get(&parameter.path).cloned();
        let with_parameters: Vec<_> =
            operands.iter().cloned().chain(parameters.iter().filter_map(field)).collect();
        let input = shapes.first().copied().unwrap_or(&[]);
        match named.layer() {
            Layer::Conv2d(layer) => {
                let conv = layer.resolve(name, input)?;
                let mut attributes = window(&conv.window);
                attributes.push(("group", Int(conv.groups as i64)));
                self.node(name, "Conv", &with_parameters, &output, &attributes);
            }
            Layer::ConvTranspose2d(layer) => {
                let conv = layer.resolve(name, input)?;
                let w = conv.window;
                let extra = layer.onnx_output_padding();
                let end = |axis: usize| {
                    let full =
                        (w.output[axis] - 1) * w.stride[axis] + (w.kernel[axis] - 1) * w.dilation[axis] + 1;
                    (full + extra[axis] - w.pad_begin[axis] - w.input[axis]) as i64
                };
                let [top, left] = w.pad_begin.map(|n| n as i64);
                let attributes = [
                    ("kernel_shape", pair(w.kernel)),
                    ("strides", pair(w.stride)),
                    ("dilations", pair(w.dilation)),
                    ("pads", Attribute::Ints(vec![top, left, end(0), end(1)])),
                    ("output_padding", pair(extra)),
                    ("group", Int(conv.groups as i64)),
                ];
                self.node(name, "ConvTranspose", &with_parameters, &output, &attributes);
            }
            Layer::Dense(_) => self.node(name, "Gemm", &with_parameters, &output, &[("transB", Int(1))]),
            Layer::BatchNorm(norm) => {
                // ONNX's momentum is the weight of the old statistics.
                let attributes = [("epsilon", Float(norm.epsilon)), ("momentum", Float(1.0 - norm.momentum))];
                self.node(name, "BatchNormalization", &with_parameters, &output, &attributes);
            }
            Layer::GroupNorm(norm) => {
                let [_, _, channels] = *input else {
                    let expected = "images [h, w, c]; use a layer norm for features";
                    return Err(Error::argument(name, expected, format!("a group norm of {input:?}")));
                };
                let inputs = self.scale_and_shift(name, &with_parameters, &[channels]);
                let epsilon = ("epsilon", Float(norm.epsilon));
                if norm.groups == channels {
                    self.node(name, "InstanceNormalization", &inputs, &output, &[epsilon]);
                } else {
                    let attributes = [epsilon, ("num_groups", Int(norm.groups as i64))];
                    self.node(name, "GroupNormalization", &inputs, &output, &attributes);
                }
            }
            Layer::LayerNorm(norm) => self.layer_norm(name, norm, &with_parameters, &output, input),
            Layer::LocalResponseNorm(norm) => {
                if norm.size.is_multiple_of(2) {
                    let expected = "an odd number of channels: ONNX begins even windows one channel later";
                    return Err(Error::argument(name, expected, norm.size));
                }
                let attributes = [
                    ("size", Int(norm.size as i64)),
                    ("alpha", Float(norm.alpha)),
                    ("beta", Float(norm.beta)),
                    ("bias", Float(norm.k)),
                ];
                self.node(name, "LRN", operands, &output, &attributes);
            }
            Layer::ChannelShuffle { groups } => self.channel_shuffle(name, *groups, input, operands, &output),
            Layer::Add if operands.len() == 2 => self.node(name, "Add", operands, &output, &[]),
            Layer::Add => self.node(name, "Sum", operands, &output, &[]),
            // The channels are axis 1 of images and of features.
            Layer::Concat => self.node(name, "Concat", operands, &output, &[("axis", Int(1))]),
            Layer::Mul => self.mul(name, operands, &output, shapes),
            Layer::Relu => self.node(name, "Relu", operands, &output, &[]),
            Layer::Activation(Activation::LeakyRelu { slope }) => {
                self.node(name, "LeakyRelu", operands, &output, &[("alpha", Float(*slope))]);
            }
            Layer::Activation(Activation::Clamp { min, max }) => {
                self.clip(name, operands, &output, [*min, *max])
            }
            Layer::Activation(Activation::Relu6) => self.clip(name, operands, &output, [0.0, 6.0]),
            Layer::Activation(Activation::HardSwish) => self.node(name, "HardSwish", operands, &output, &[]),
            Layer::Activation(Activation::HardSigmoid) => {
                let attributes = [("alpha", Float(1.0 / 6.0)), ("beta", Float(0.5))];
                self.node(name, "HardSigmoid", operands, &output, &attributes);
            }
            // SiLU is an operator of later versions only.
            Layer::Activation(Activation::Silu) => {
                let gate = format!("{name}:gate");
                self.node(&format!("{name}/Sigmoid"), "Sigmoid", operands, &gate, &[]);
                self.node(name, "Mul", &[operands, &[gate]].concat(), &output, &[]);
            }
            Layer::Activation(Activation::InversePower { .. }) => {
                let expected = "an activation of ONNX; use the layer LocalResponseNorm";
                return Err(Error::argument(name, expected, "InversePower"));
            }
            Layer::Activation(Activation::Sigmoid) => self.node(name, "Sigmoid", operands, &output, &[]),
            Layer::Activation(Activation::Tanh) => self.node(name, "Tanh", operands, &output, &[]),
            Layer::Activation(Activation::Gelu) => self.node(name, "Gelu", operands, &output, &[]),
            Layer::Activation(Activation::GeluTanh) => {
                self.node(name, "Gelu", operands, &output, &[("approximate", Text("tanh"))]);
            }
            // The channels are axis 1 of images and of features.
            Layer::Softmax => self.node(name, "Softmax", operands, &output, &[("axis", Int(1))]),
            Layer::LogSoftmax => self.node(name, "LogSoftmax", operands, &output, &[("axis", Int(1))]),
            Layer::Dropout { rate } => {
                let constant = format!("{name}:rate");
                self.initializer(&constant, &[], FLOAT, &(*rate as f32).to_le_bytes());
                self.node(name, "Dropout", &[operands, &[constant]].concat(), &output, &[]);
            }
            Layer::MaxPool2d(layer) => {
                let attributes = pool(layer, &layer.resolve(name, input)?.window);
                self.node(name, "MaxPool", operands, &output, &attributes);
            }
            Layer::AvgPool2d(layer) => {
                let mut attributes = pool(layer, &layer.resolve(name, input)?.window);
                attributes.push(("count_include_pad", Int(layer.counts_padding().into())));
                self.node(name, "AveragePool", operands, &output, &attributes);
            }
            Layer::AdaptiveAvgPool2d([1, 1]) => {
                self.node(name, "GlobalAveragePool", operands, &output, &[]);
            }
            Layer::AdaptiveMaxPool2d([rows, columns]) | Layer::AdaptiveAvgPool2d([rows, columns]) => {
                let [h, w] = [input[0], input[1]];
                if !h.is_multiple_of(*rows) || !w.is_multiple_of(*columns) {
                    let expected =
                        "a size that divides that of the images: ONNX has no other adaptive pooling";
                    return Err(Error::argument(name, expected, format!("{rows} x {columns} of {h} x {w}")));
                }
                let op = match named.layer() {
                    Layer::AdaptiveMaxPool2d(_) => "MaxPool",
                    _ => "AveragePool",
                };
                let kernel = [h / rows, w / columns];
                let attributes = [("kernel_shape", pair(kernel)), ("strides", pair(kernel))];
                self.node(name, op, operands, &output, &attributes);
            }
            Layer::Upsample(layer) => self.resize(name, layer, input, operands, &output)?,
            Layer::GlobalAvgPool => {
                let pooled = format!("{name}:pooled");
                self.node(name, "GlobalAveragePool", operands, &pooled, &[]);
                self.node(&format!("{name}/Flatten"), "Flatten", &[pooled], &output, &[("axis", Int(1))]);
            }
            Layer::Flatten => self.node(name, "Flatten", operands, &output, &[("axis", Int(1))]),
            Layer::Reshape(shape) => {
                let dims = match (input, shape.as_slice()) {
                    ([_] | [1, 1, _], &[1, 1, c]) => [0, c as i64, 1, 1].to_vec(),
                    ([_] | [1, 1, _], &[c]) => [0, c as i64].to_vec(),
                    _ => {
                        let expected = "a reshape between [c] and [1, 1, c]; use a flatten for images";
                        return Err(Error::argument(name, expected, format!("{input:?} to {shape:?}")));
                    }
                };
                self.reshape(name, operands, &output, &dims);
            }
        }
        Ok(())
    }
}

/// Returns the attributes of a window.
fn window(geometry: &WindowGeometry) -> Vec<(&'static str, Attribute<'static>)> {
    // The window after the last output may begin inside the image: no padding is needed then.
    let end = |axis: usize| {
        let extent = geometry.dilation[axis] * (geometry.kernel[axis] - 1) + 1;
        let reach = (geometry.output[axis] - 1) * geometry.stride[axis] + extent;
        reach.saturating_sub(geometry.input[axis] + geometry.pad_begin[axis]) as i64
    };
    let [top, left] = geometry.pad_begin.map(|n| n as i64);
    vec![
        ("kernel_shape", pair(geometry.kernel)),
        ("strides", pair(geometry.stride)),
        ("dilations", pair(geometry.dilation)),
        ("pads", Attribute::Ints(vec![top, left, end(0), end(1)])),
    ]
}

/// Returns the attributes of the windows of a pooling layer.
fn pool(layer: &Pool2dLayer, geometry: &WindowGeometry) -> Vec<(&'static str, Attribute<'static>)> {
    let mut attributes = window(geometry);
    if layer.rounds_up() {
        // The windows reach beyond this padding.
        let pads = geometry.pad_begin.into_iter().chain(layer.pad_end(geometry.input));
        attributes.retain(|(name, _)| *name != "pads");
        attributes.push(("pads", Attribute::Ints(pads.map(|n| n as i64).collect())));
        attributes.push(("ceil_mode", Attribute::Int(1)));
    }
    attributes
}

fn pair(values: [usize; 2]) -> Attribute<'static> {
    Attribute::Ints(values.iter().map(|&n| n as i64).collect())
}

/// Returns the description of an input or output with a batch of any size.
fn value_info(name: &str, shape: &[usize]) -> Message {
    let onnx = match *shape {
        [h, w, c] => vec![c, h, w],
        _ => shape.to_vec(),
    };
    let batch = Message::default().bytes(2, b"batch");
    let extents = onnx.iter().map(|&extent| Message::default().integer(1, extent as i64));
    let shape = Message::default().message(1, batch).messages(1, extents);
    let tensor = Message::default().integer(1, FLOAT).message(2, shape);
    Message::default().bytes(1, name.as_bytes()).message(2, Message::default().message(1, tensor))
}
