//! Linear resampling of images: upsampling, and means over windows of unequal size.

use crate::error::{Error, Result};

/// The most weights of one axis of a resampling: 16 MiB.
const MAX_WEIGHTS: usize = 1 << 22;

/// Attributes of a linear resampling of `[h, w, c]` images: each output pixel is a weighted sum of the pixels of
/// a rectangle of the input. Its weights are products of one for the row and one for the column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resample2d {
    /// Resampling of the rows, and of the columns.
    pub axes: [Resampling; 2],
    /// Channels.
    pub channels: usize,
    /// Whether the operation is the adjoint, which maps gradients of the output to gradients of the input.
    pub adjoint: bool,
}

/// Linear resampling along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    /// Input size.
    pub input: usize,
    /// Output size.
    pub output: usize,
    /// How outputs are computed.
    pub rule: ResamplingRule,
}

/// The elements that an output of a [`Resampling`] is computed from. Output `o` of `output` is computed from
/// elements `i` of `input`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResamplingRule {
    /// The element `floor(o * step)`, or the last one; the product is rounded to `f32`, as PyTorch does.
    Nearest {
        /// Distance of adjacent outputs, in elements.
        step: f64,
    },
    /// Linear interpolation at `(o + 1/2) * step - 1/2`, limited to the input (half-pixel centres).
    Linear {
        /// Distance of adjacent outputs, in elements.
        step: f64,
    },
    /// Linear interpolation at `o * (input - 1) / (output - 1)`: first and last elements coincide. A single
    /// output is the first element.
    LinearCorners,
    /// The mean of the elements from `floor(o * input / output)` to before `ceil((o + 1) * input / output)`.
    AdaptiveMean,
    /// The mean of the `kernel` elements from `o * stride - pad_begin` on, of which those in the padding are 0.
    /// Elements beyond the padding at the end are not counted.
    WindowMean {
        /// Elements of a window.
        kernel: usize,
        /// Distance of adjacent windows.
        stride: usize,
        /// Zeros before the input.
        pad_begin: usize,
        /// Zeros after the input.
        pad_end: usize,
    },
    /// The elements of `groups` groups of equal size by turns, the first of each, then the second of each: element
    /// `(o % groups) * (input / groups) + o / groups`.
    Interleave {
        /// Number of groups, a divisor of `input`, which is equal to `output`.
        groups: usize,
    },
}

impl Resample2d {
    /// Rows and columns of the operand.
    pub fn from(&self) -> [usize; 2] {
        self.axes.map(|axis| if self.adjoint { axis.output } else { axis.input })
    }

    /// Rows and columns of the result.
    pub fn to(&self) -> [usize; 2] {
        self.axes.map(|axis| if self.adjoint { axis.input } else { axis.output })
    }

    /// The elements that each row (`axis` 0) or column (`axis` 1) of the result is computed from: the index of the
    /// first, and the weights of the elements from that on.
    pub(crate) fn weights(&self, axis: usize) -> Vec<(usize, Vec<f64>)> {
        let weights = self.axes[axis].weights();
        if self.adjoint { transpose(&weights, self.axes[axis].input) } else { weights }
    }

    /// The largest number of rows, and of columns, that a pixel of the result is computed from.
    pub(crate) fn taps(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.weights(axis).iter().map(|(_, weights)| weights.len()).max().unwrap_or(0))
    }
}

impl Resampling {
    /// Checks sizes and attributes, so that `Resample2d::weights` cannot fail; `at` names the operation.
    pub(crate) fn check(&self, at: &str) -> Result<()> {
        let in_range = |n: usize| n > 0 && n <= 1 << 20;
        let rule = match self.rule {
            ResamplingRule::Nearest { step } | ResamplingRule::Linear { step } => {
                step.is_finite() && step > 0.0 && step <= f64::from(1 << 20)
            }
            ResamplingRule::LinearCorners | ResamplingRule::AdaptiveMean => true,
            ResamplingRule::WindowMean { kernel, stride, pad_begin, pad_end } => {
                in_range(kernel) && in_range(stride) && pad_begin <= 1 << 20 && pad_end <= 1 << 20
            }
            ResamplingRule::Interleave { groups } => {
                groups > 0 && self.input.is_multiple_of(groups) && self.input == self.output
            }
        };
        if !in_range(self.input) || !in_range(self.output) || !rule {
            let expected =
                "sizes, steps and windows above 0 and up to 1,048,576, and groups that divide the size";
            return Err(Error::argument(at, expected, format!("{self:?}")));
        }
        let weights = match self.rule {
            ResamplingRule::Nearest { .. } | ResamplingRule::Interleave { .. } => self.output,
            ResamplingRule::Linear { .. } | ResamplingRule::LinearCorners => 2 * self.output,
            ResamplingRule::AdaptiveMean => self.input + 2 * self.output,
            ResamplingRule::WindowMean { kernel, .. } => self.output * kernel.min(self.input),
        };
        if weights > MAX_WEIGHTS {
            let expected = format!("at most {MAX_WEIGHTS} weights of one axis (outputs times window)");
            return Err(Error::argument(at, expected, weights));
        }
        Ok(())
    }

    fn weights(&self) -> Vec<(usize, Vec<f64>)> {
        (0..self.output).map(|output| self.weights_of(output)).collect()
    }

    fn weights_of(&self, output: usize) -> (usize, Vec<f64>) {
        let last = self.input - 1;
        match self.rule {
            ResamplingRule::Nearest { step } => {
                let position = output as f32 * step as f32;
                ((position.floor() as usize).min(last), vec![1.0])
            }
            ResamplingRule::Linear { step } => between((output as f64 + 0.5) * step - 0.5, last),
            ResamplingRule::LinearCorners if self.output == 1 => (0, vec![1.0]),
            ResamplingRule::LinearCorners => {
                // In integers, so that elements that coincide have the weight 1.
                let (all, gaps) = (output * last, self.output - 1);
                between_exact(all / gaps, (all % gaps) as f64 / gaps as f64, last)
            }
            ResamplingRule::AdaptiveMean => {
                let first = output * self.input / self.output;
                let end = ((output + 1) * self.input).div_ceil(self.output);
                (first, vec![1.0 / (end - first) as f64; end - first])
            }
            ResamplingRule::Interleave { groups } => {
                (output % groups * (self.input / groups) + output / groups, vec![1.0])
            }
            ResamplingRule::WindowMean { kernel, stride, pad_begin, pad_end } => {
                let begin = output * stride;
                let end = (begin + kernel).min(pad_begin + self.input + pad_end);
                let inside = |padded: usize| padded.saturating_sub(pad_begin).min(self.input);
                let (first, after) = (inside(begin), inside(end));
                let weight = 1.0 / end.saturating_sub(begin).max(1) as f64;
                (first, vec![weight; after.saturating_sub(first)])
            }
        }
    }
}

/// Returns the weights of linear interpolation at a position.
fn between(position: f64, last: usize) -> (usize, Vec<f64>) {
    let position = position.max(0.0);
    between_exact(position as usize, position.fract(), last)
}

/// Returns the weights of linear interpolation at `fraction` of the way from element `first` to the next. An element
/// of weight 0 is left out, so that NaN there does not matter.
fn between_exact(first: usize, fraction: f64, last: usize) -> (usize, Vec<f64>) {
    if first >= last {
        (last, vec![1.0])
    } else if fraction == 0.0 {
        (first, vec![1.0])
    } else {
        (first, vec![1.0 - fraction, fraction])
    }
}

/// Returns the transpose of a matrix whose rows have ascending ranges of elements that are not 0, or that permutes
/// elements.
fn transpose(rows: &[(usize, Vec<f64>)], columns: usize) -> Vec<(usize, Vec<f64>)> {
    let mut transposed = vec![(0, Vec::new()); columns];
    for (row, (first, weights)) in rows.iter().enumerate() {
        for (column, &weight) in (*first..).zip(weights) {
            let (begin, column): &mut (usize, Vec<f64>) = &mut transposed[column];
            if column.is_empty() {
                *begin = row;
            }
            // Rows without this column cannot lie between rows with it.
            column.push(weight);
        }
    }
    transposed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(input: usize, output: usize, rule: ResamplingRule) -> Resampling {
        Resampling { input, output, rule }
    }

    fn rules() -> Vec<ResamplingRule> {
        use ResamplingRule::{AdaptiveMean, Linear, LinearCorners, Nearest, WindowMean};
        let mut all = vec![LinearCorners, AdaptiveMean];
        for step in [0.3, 0.5, 2.0 / 3.0, 1.0, 1.7, 4.0] {
            all.extend([Nearest { step }, Linear { step }]);
        }
        for (kernel, stride, pad_begin, pad_end) in [(3, 1, 1, 1), (2, 3, 0, 2), (1, 1, 4, 0), (9, 2, 3, 5)] {
            all.push(WindowMean { kernel, stride, pad_begin, pad_end });
        }
        all
    }

    #[test]
    fn ranges_ascend_and_the_transpose_has_the_same_matrix() {
        for rule in rules() {
            for (input, output) in [(1, 1), (1, 5), (5, 1), (4, 7), (7, 4), (6, 6), (9, 27)] {
                let axis = axis(input, output, rule);
                axis.check("axis").unwrap();
                let rows = axis.weights();
                let matrix = |rows: &[(usize, Vec<f64>)], columns: usize| {
                    let mut all = vec![vec![0.0; columns]; rows.len()];
                    for (dense, (first, weights)) in all.iter_mut().zip(rows) {
                        dense[*first..first + weights.len()].copy_from_slice(weights);
                    }
                    all
                };
                let dense = matrix(&rows, input);
                let back = matrix(&transpose(&rows, input), output);
                for (o, row) in dense.iter().enumerate() {
                    for (i, &weight) in row.iter().enumerate() {
                        assert_eq!(back[i][o], weight, "{axis:?}");
                    }
                }
                for pair in rows.windows(2) {
                    let end = |(first, weights): &(usize, Vec<f64>)| first + weights.len();
                    assert!(pair[0].0 <= pair[1].0 && end(&pair[0]) <= end(&pair[1]), "{axis:?}");
                }
            }
        }
    }

    #[test]
    fn weights_are_those_of_pytorch() {
        use ResamplingRule::{AdaptiveMean, Linear, LinearCorners, Nearest, WindowMean};
        let weights = |input, output, rule| axis(input, output, rule).weights();
        let nearest = weights(3, 6, Nearest { step: 0.5 });
        assert_eq!(nearest.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
        let linear = weights(2, 4, Linear { step: 0.5 });
        assert_eq!(linear, [(0, vec![1.0]), (0, vec![0.75, 0.25]), (0, vec![0.25, 0.75]), (1, vec![1.0])]);
        let corners = weights(2, 3, LinearCorners);
        assert_eq!(corners, [(0, vec![1.0]), (0, vec![0.5, 0.5]), (1, vec![1.0])]);
        let turns = weights(6, 6, ResamplingRule::Interleave { groups: 2 });
        assert_eq!(turns.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [0, 3, 1, 4, 2, 5]);
        let back = transpose(&turns, 6);
        assert_eq!(back.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [0, 2, 4, 1, 3, 5]);
        // Regions 0..3, 2..5, 4..7 of 7 elements.
        let third = vec![1.0 / 3.0; 3];
        assert_eq!(weights(7, 3, AdaptiveMean), [(0, third.clone()), (2, third.clone()), (4, third.clone())]);
        // The last window of a rounded-up number of outputs ends with the padding.
        let mean = weights(4, 3, WindowMean { kernel: 3, stride: 2, pad_begin: 1, pad_end: 1 });
        assert_eq!(mean, [(0, vec![1.0 / 3.0; 2]), (1, third), (3, vec![0.5])]);
    }

    #[test]
    fn sizes_that_are_too_large_are_named_errors() {
        let linear = ResamplingRule::Linear { step: 1.0 };
        for wrong in [
            axis(0, 1, linear),
            axis(1, 0, linear),
            axis(usize::MAX, 1, linear),
            axis(1, 1, ResamplingRule::Nearest { step: f64::NAN }),
            axis(6, 6, ResamplingRule::Interleave { groups: 4 }),
            axis(6, 6, ResamplingRule::Interleave { groups: 0 }),
            axis(6, 3, ResamplingRule::Interleave { groups: 3 }),
            axis(1, 1, ResamplingRule::Linear { step: -1.0 }),
            axis(
                1 << 20,
                1 << 20,
                ResamplingRule::WindowMean { kernel: 1000, stride: 1, pad_begin: 0, pad_end: 0 },
            ),
        ] {
            assert!(matches!(wrong.check("axis"), Err(Error::InvalidArgument { .. })), "{wrong:?}");
        }
    }
}
