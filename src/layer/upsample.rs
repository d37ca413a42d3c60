//! Upsampling.

use crate::error::{Error, Result};
use crate::graph::{Op, Resample2d, Resampling, ResamplingRule};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// How [upsampling](UpsampleLayer) computes pixels between those of its input, as PyTorch's `nn.Upsample`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upsampling {
    /// The pixel before, `floor(position / scale)`.
    Nearest,
    /// Linear between rows and between columns. Pixels are squares: the outer edges of the images coincide
    /// (`align_corners=False`).
    Bilinear,
    /// Linear between rows and between columns. Pixels are points: the corner pixels coincide
    /// (`align_corners=True`).
    BilinearCorners,
}

/// Upsampling of `[h, w, c]` images by a factor or to a size; factors below 1 make images smaller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpsampleLayer {
    upsampling: Upsampling,
    size: Size,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Size {
    Scale([f64; 2]),
    Pixels([usize; 2]),
}

impl UpsampleLayer {
    /// Upsampling by factors for rows and columns; the sizes of the result are rounded down.
    pub fn by(upsampling: Upsampling, scale: [f64; 2]) -> Self {
        UpsampleLayer { upsampling, size: Size::Scale(scale) }
    }

    /// Upsampling to `[rows, columns]`.
    pub fn to(upsampling: Upsampling, size: [usize; 2]) -> Self {
        UpsampleLayer { upsampling, size: Size::Pixels(size) }
    }

    /// How pixels are computed.
    pub fn upsampling(&self) -> Upsampling {
        self.upsampling
    }

    /// The factors for rows and columns; `None` if the layer has a size.
    pub(crate) fn scale(&self) -> Option<[f64; 2]> {
        match self.size {
            Size::Scale(scale) => Some(scale),
            Size::Pixels(_) => None,
        }
    }

    /// Returns the operation for examples of shape `input`.
    pub(crate) fn resolve(&self, name: &str, input: &[usize]) -> Result<Resample2d> {
        let [h, w, channels] = *input else { return Err(super::not_images(name, input)) };
        let axes = [self.axis(name, 0, h)?, self.axis(name, 1, w)?];
        Ok(Resample2d { axes, channels, adjoint: false })
    }

    fn axis(&self, name: &str, axis: usize, input: usize) -> Result<Resampling> {
        let (output, step) = match self.size {
            Size::Pixels(size) => (size[axis], input as f64 / size[axis].max(1) as f64),
            Size::Scale(scale) => {
                let factor = scale[axis];
                let output = (input as f64 * factor).floor();
                if !(factor.is_finite() && output >= 1.0 && output <= f64::from(1 << 20)) {
                    let expected = format!("a factor that gives 1 to 1,048,576 pixels from {input}");
                    return Err(Error::argument(name, expected, factor));
                }
                (output as usize, 1.0 / factor)
            }
        };
        let rule = match self.upsampling {
            Upsampling::Nearest => ResamplingRule::Nearest { step },
            Upsampling::Bilinear => ResamplingRule::Linear { step },
            Upsampling::BilinearCorners => ResamplingRule::LinearCorners,
        };
        let resampling = Resampling { input, output, rule };
        resampling.check(name)?;
        Ok(resampling)
    }

    /// Returns the operation's output shape for examples of shape `input`.
    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        let resample = self.resolve(name, input)?;
        let output = vec![resample.axes[0].output, resample.axes[1].output, resample.channels];
        Shape::new(output.as_slice())?;
        Ok(output)
    }

    pub(super) fn op(&self, name: &str, input: &[usize]) -> Result<Op> {
        Ok(Op::Resample2d(self.resolve(name, input)?))
    }
}
