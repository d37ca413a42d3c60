use crate::kernels::WgslFile;
use crate::kernels::elementwise::elementwise_with;
use crate::kernels::{Extent, Launch, files};

/// An activation's curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// x above 0, else this times x.
    LeakyRelu(f64),
    /// x between minus and plus this, and the nearer of them beyond.
    Clamp(f64),
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
            Curve::Clamp(_) => &files::ACTIVATION_CLAMP,
            Curve::Sigmoid => &files::ACTIVATION_SIGMOID,
            Curve::Tanh => &files::ACTIVATION_TANH,
            Curve::Gelu => &files::ACTIVATION_GELU,
            Curve::GeluTanh => &files::ACTIVATION_GELU_TANH,
        }
    }

    pub(super) fn option(self) -> f32 {
        match self {
            Curve::LeakyRelu(option) | Curve::Clamp(option) => option as f32,
            Curve::Sigmoid | Curve::Tanh | Curve::Gelu | Curve::GeluTanh => 0.0,
        }
    }
}

/// y = the curve at x. Buffers: x, y.
pub fn activation(extent: Extent, curve: Curve) -> Launch {
    let mut launch = elementwise_with(&files::ACTIVATION, extent, 1, curve.option());
    launch.snippets.push(curve.snippet());
    launch
}
