use super::{
    ELEMENTWISE, ELEMENTWISE_FIELDS, ElementwiseParams, Extent, GRID, Kernel, Launch, SCALARS, Snippet,
    elementwise_with,
};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "activation",
    body: include_str!("../../shaders/activation.wgsl"),
    snippets: &[&ACTIVATION, &ELEMENTWISE, &SCALARS, &GRID],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite)],
    params: ELEMENTWISE_FIELDS,
    params_bytes: size_of::<ElementwiseParams>(),
};

pub(super) static ACTIVATION: Snippet =
    Snippet { name: "activation", text: include_str!("../../shaders/shared/activation.wgsl"), bindings: &[] };
static LEAKY_RELU: Snippet = Snippet {
    name: "activation_leaky_relu",
    text: include_str!("../../shaders/shared/activation_leaky_relu.wgsl"),
    bindings: &[],
};
static SIGMOID: Snippet = Snippet {
    name: "activation_sigmoid",
    text: include_str!("../../shaders/shared/activation_sigmoid.wgsl"),
    bindings: &[],
};
static TANH: Snippet = Snippet {
    name: "activation_tanh",
    text: include_str!("../../shaders/shared/activation_tanh.wgsl"),
    bindings: &[],
};
static GELU: Snippet = Snippet {
    name: "activation_gelu",
    text: include_str!("../../shaders/shared/activation_gelu.wgsl"),
    bindings: &[],
};
static GELU_TANH: Snippet = Snippet {
    name: "activation_gelu_tanh",
    text: include_str!("../../shaders/shared/activation_gelu_tanh.wgsl"),
    bindings: &[],
};

/// An activation's curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// x above 0, else this times x.
    LeakyRelu(f64),
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// x times the normal distribution function.
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
}

impl Curve {
    pub(super) fn snippet(self) -> &'static Snippet {
        match self {
            Curve::LeakyRelu(_) => &LEAKY_RELU,
            Curve::Sigmoid => &SIGMOID,
            Curve::Tanh => &TANH,
            Curve::Gelu => &GELU,
            Curve::GeluTanh => &GELU_TANH,
        }
    }

    pub(super) fn option(self) -> f32 {
        if let Curve::LeakyRelu(slope) = self { slope as f32 } else { 0.0 }
    }
}

/// y = the curve at x. Buffers: x, y.
pub fn activation(extent: Extent, curve: Curve) -> Launch {
    let mut launch = elementwise_with(&KERNEL, extent, 1, curve.option());
    launch.snippets.push(curve.snippet());
    launch
}
