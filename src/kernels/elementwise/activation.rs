use crate::kernels::WgslFile;
use crate::kernels::elementwise::elementwise_with;
use crate::kernels::{Extent, Launch, files};

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
    pub(super) fn snippet(self) -> &'static WgslFile {
        match self {
            Curve::LeakyRelu(_) => &files::ACTIVATION_LEAKY_RELU,
            Curve::Sigmoid => &files::ACTIVATION_SIGMOID,
            Curve::Tanh => &files::ACTIVATION_TANH,
            Curve::Gelu => &files::ACTIVATION_GELU,
            Curve::GeluTanh => &files::ACTIVATION_GELU_TANH,
        }
    }

    pub(super) fn option(self) -> f32 {
        if let Curve::LeakyRelu(slope) = self { slope as f32 } else { 0.0 }
    }
}

/// y = the curve at x. Buffers: x, y.
pub fn activation(extent: Extent, curve: Curve) -> Launch {
    let mut launch = elementwise_with(&files::ACTIVATION, extent, 1, curve.option());
    launch.snippets.push(curve.snippet());
    launch
}
