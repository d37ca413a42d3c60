use crate::kernels::WgslFile;
use crate::kernels::elementwise::elementwise_with_scalars;
use crate::kernels::{Extent, Launch, files};

/// An activation function other than ReLU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// x where x > 0, else this slope times x.
    LeakyRelu(f64),
    /// x clamped to this range.
    Clamp(f64, f64),
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// GELU: x times the cumulative distribution function of the standard normal distribution.
    Gelu,
    /// Approximation of GELU by tanh.
    GeluTanh,
    /// min(max(x, 0), 6).
    Relu6,
    /// x / (1 + exp(-x)).
    Silu,
    /// min(max(x + 3, 0), 6) / 6.
    HardSigmoid,
    /// x times hard sigmoid.
    HardSwish,
    /// (1 + max(x, 0)) to the power of minus this exponent.
    InversePower(f64),
}

impl Curve {
    fn file(self) -> &'static WgslFile {
        match self {
            Curve::LeakyRelu(_) => &files::ACTIVATION_LEAKY_RELU,
            Curve::Clamp(..) => &files::ACTIVATION_CLAMP,
            Curve::Sigmoid => &files::ACTIVATION_SIGMOID,
            Curve::Tanh => &files::ACTIVATION_TANH,
            Curve::Gelu => &files::ACTIVATION_GELU,
            Curve::GeluTanh => &files::ACTIVATION_GELU_TANH,
            Curve::Relu6 => &files::ACTIVATION_RELU6,
            Curve::Silu => &files::ACTIVATION_SILU,
            Curve::HardSigmoid => &files::ACTIVATION_HARD_SIGMOID,
            Curve::HardSwish => &files::ACTIVATION_HARD_SWISH,
            Curve::InversePower(_) => &files::ACTIVATION_INVERSE_POWER,
        }
    }

    fn scalars(self) -> [f32; 2] {
        match self {
            Curve::LeakyRelu(scalar) | Curve::InversePower(scalar) => [scalar as f32, 0.0],
            Curve::Clamp(min, max) => [min as f32, max as f32],
            _ => [0.0; 2],
        }
    }
}

/// y = f(x) for an activation f. Buffers: x, y.
pub fn activation(extent: Extent, curve: Curve) -> Launch {
    let mut launch = elementwise_with_scalars(&files::ACTIVATION, extent, curve.scalars());
    launch.snippets.push(curve.file());
    launch
}

/// dx = dy * f'(x) for an activation f. Buffers: x, dy, dx.
pub fn activation_grad(extent: Extent, curve: Curve) -> Launch {
    let mut launch = elementwise_with_scalars(&files::ACTIVATION_GRAD, extent, curve.scalars());
    launch.snippets.push(curve.file());
    launch
}
