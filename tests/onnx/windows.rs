//! ONNX's convolution, pooling and resizing operators.

use super::layout::*;
use super::{OutOfScope, Results, out_of_scope};
use crate::support::executor::{Make, evaluate, evaluate_one};
use crate::support::onnx::{Case, Tensor};
use frazil::low_level::{Conv2d, Op, Pool2d, Resample2d, Resampling, ResamplingRule};
use frazil::low_level::{Padding, Window, WindowGeometry};

/// Returns the window geometry of a case for an input of `[rows, columns]`.
fn window(case: &Case, input: [usize; 2], kernel: [usize; 2]) -> Result<WindowGeometry, OutOfScope> {
    let mut w = Window::new(kernel);
    w.stride = pair(case, "strides", 1);
    w.dilation = pair(case, "dilations", 1);
    let [mut top, mut left, mut bottom, mut right] = pads(case);
    w.padding = match text(case, "auto_pad", "NOTSET") {
        "VALID" => Padding::Valid,
        "SAME_UPPER" => Padding::Same,
        automatic => {
            if automatic == "SAME_LOWER" {
                // SAME_LOWER has the same total padding as SAME_UPPER, but if the total is odd, the extra row
                // or column is at the beginning.
                let total = [0, 1].map(|axis| {
                    let outputs = input[axis].div_ceil(w.stride[axis]);
                    let reach = (kernel[axis] - 1) * w.dilation[axis] + 1;
                    ((outputs - 1) * w.stride[axis] + reach).saturating_sub(input[axis])
                });
                [bottom, right] = total.map(|n| n / 2);
                [top, left] = [total[0] - bottom, total[1] - right];
            }
            Padding::Explicit { top, bottom, left, right }
        }
    };
    let mut g = w.on(input, &case.name).expect("a window with outputs");
    if int(case, "ceil_mode", 0) != 0 {
        for (axis, end) in [bottom, right].into_iter().enumerate() {
            let padded = g.pad_begin[axis] + input[axis] + end;
            let reach = (kernel[axis] - 1) * w.dilation[axis] + 1;
            g.output[axis] = (padded - reach).div_ceil(w.stride[axis]) + 1;
            // Drops the last window if it starts in the padding at the end.
            if (g.output[axis] - 1) * w.stride[axis] >= g.pad_begin[axis] + input[axis] {
                g.output[axis] -= 1;
            }
        }
    }
    Ok(g)
}

/// Adds the bias, if there is one, to an image batch in NHWC layout.
fn with_bias(make: Make, shape: [usize; 4], y: Vec<f64>, bias: Option<&Tensor>) -> Vec<f64> {
    match bias {
        None => y,
        Some(bias) => evaluate_one(make, Op::BiasAdd, &[batch(&tensor(&shape, y)), fixed(bias)]),
    }
}

pub fn conv(case: &Case, make: Make) -> Results {
    let x = channels_last(&planar(input(case, 0))?);
    let kernel = permute(&planar(input(case, 1))?, &[2, 3, 1, 0]);
    let window = window(case, [x.shape[1], x.shape[2]], [kernel.shape[0], kernel.shape[1]])?;
    let groups = usize::try_from(int(case, "group", 1)).expect("groups");
    let c = Conv2d { window, c_in: x.shape[3], c_out: kernel.shape[3], groups };
    let shape = [x.shape[0], window.output[0], window.output[1], c.c_out];
    let y = evaluate_one(make, Op::Conv2d(c), &[batch(&x), fixed(&kernel)]);
    let y = with_bias(make, shape, y, optional(case, 2));
    Ok(vec![channels_first(shape, y, input(case, 0))])
}

/// Computes ConvTranspose as the input gradient of the convolution whose output has the shape of the
/// operator's input. ONNX stores the kernel as `[C, M / group, kh, kw]`, which is the OIHW layout of that
/// convolution.
pub fn conv_transpose(case: &Case, make: Make) -> Results {
    let x = channels_last(&planar(input(case, 0))?);
    let kernel = permute(&planar(input(case, 1))?, &[2, 3, 1, 0]);
    let groups = usize::try_from(int(case, "group", 1)).expect("groups");
    let (stride, dilation) = (pair(case, "strides", 1), pair(case, "dilations", 1));
    let extra = pair(case, "output_padding", 0);
    let auto = text(case, "auto_pad", "NOTSET");
    let [top, left, bottom, right] = pads(case);
    let (mut begin, mut output) = ([top, left], [0; 2]);
    for axis in 0..2 {
        let (n, s) = (x.shape[1 + axis], stride[axis]);
        let reach = (kernel.shape[axis] - 1) * dilation[axis] + 1;
        let full = s * (n - 1) + extra[axis] + reach;
        output[axis] = full - [top + bottom, left + right][axis];
        let wanted = match ints(case, "output_shape") {
            Some(shape) => Some(shape[shape.len() - 2 + axis]),
            None if auto.starts_with("SAME") => Some(n * s),
            None => None,
        };
        if let Some(wanted) = wanted {
            let total = full.saturating_sub(wanted);
            begin[axis] = if auto == "SAME_UPPER" { total / 2 } else { total - total / 2 };
            output[axis] = wanted;
        }
    }
    let window = WindowGeometry {
        input: output,
        kernel: [kernel.shape[0], kernel.shape[1]],
        stride,
        dilation,
        pad_begin: begin,
        output: [x.shape[1], x.shape[2]],
    };
    let c = Conv2d { window, c_in: kernel.shape[2] * groups, c_out: x.shape[3], groups };
    let shape = [x.shape[0], output[0], output[1], c.c_in];
    let y = evaluate_one(make, Op::Conv2dGradInput(c), &[batch(&x), fixed(&kernel)]);
    let y = with_bias(make, shape, y, optional(case, 2));
    Ok(vec![channels_first(shape, y, input(case, 0))])
}

pub fn max_pool(case: &Case, make: Make) -> Results {
    let x = channels_last(&planar(input(case, 0))?);
    let [n, h, w, channels] = [0, 1, 2, 3].map(|axis| x.shape[axis]);
    let window = window(case, [h, w], pair(case, "kernel_shape", 1))?;
    let shape = [n, window.output[0], window.output[1], channels];
    let results = evaluate(make, Op::MaxPool2d(Pool2d { window, channels }), &[batch(&x)]);
    let mut outputs = vec![channels_first(shape, results[0].clone(), input(case, 0))];
    if case.outputs.len() > 1 {
        // Converts indices: ONNX returns the index of each maximum in the NCHW input, `Op::MaxPool2d` its
        // position in the window.
        let by_column = int(case, "storage_order", 0) != 0;
        let number = |(index, &tap): (usize, &f64)| {
            let (channel, pixel) = (index % channels, index / channels);
            let output = [pixel / shape[2] % shape[1], pixel % shape[2]];
            let image = pixel / (shape[1] * shape[2]);
            let tap = [tap as usize / window.kernel[1], tap as usize % window.kernel[1]];
            let [row, column] =
                [0, 1].map(|axis| window.source(axis, output[axis], tap[axis]).expect("an element"));
            let within = if by_column { column * h + row } else { row * w + column };
            ((image * channels + channel) * h * w + within) as f64
        };
        let indices = results[1].iter().enumerate().map(number).collect();
        outputs.push(channels_first(shape, indices, input(case, 0)));
    }
    Ok(outputs)
}

pub fn average_pool(case: &Case, make: Make) -> Results {
    if case.name == "test_averagepool_2d_ceil_last_window_starts_on_pad" {
        return out_of_scope("expected values of four digits");
    }
    let x = channels_last(&planar(input(case, 0))?);
    let [n, h, w, channels] = [0, 1, 2, 3].map(|axis| x.shape[axis]);
    let window = window(case, [h, w], pair(case, "kernel_shape", 1))?;
    let shape = [n, window.output[0], window.output[1], channels];
    let [top, left, bottom, right] = pads(case);
    let op = if int(case, "count_include_pad", 0) != 0 {
        let axis = |axis: usize, pad_end: usize| Resampling {
            input: window.input[axis],
            output: window.output[axis],
            rule: ResamplingRule::WindowMean {
                kernel: window.kernel[axis],
                stride: window.stride[axis],
                pad_begin: window.pad_begin[axis],
                pad_end,
            },
        };
        assert_eq!((window.pad_begin, window.dilation), ([top, left], [1, 1]), "{}", case.name);
        Op::Resample2d(Resample2d { axes: [axis(0, bottom), axis(1, right)], channels, adjoint: false })
    } else {
        Op::AvgPool2d(Pool2d { window, channels })
    };
    let y = evaluate_one(make, op, &[batch(&x)]);
    Ok(vec![channels_first(shape, y, input(case, 0))])
}

pub fn global_average_pool(case: &Case, make: Make) -> Results {
    let x = channels_last(&planar(input(case, 0))?);
    let shape = [x.shape[0], 1, 1, x.shape[3]];
    let y = evaluate_one(make, Op::GlobalAvgPool, &[batch(&x)]);
    Ok(vec![channels_first(shape, y, input(case, 0))])
}

/// Computes `Resize` and `Upsample` where they have the pixels of one of this crate's rules.
pub fn resize(case: &Case, make: Make) -> Results {
    let x = channels_last(&planar(input(case, 0))?);
    let [n, h, w, channels] = [0, 1, 2, 3].map(|axis| x.shape[axis]);
    let mode = text(case, "mode", "nearest");
    let coordinates = text(
        case,
        "coordinate_transformation_mode",
        if case.op == "Upsample" { "asymmetric" } else { "half_pixel" },
    );
    let rounding =
        text(case, "nearest_mode", if case.op == "Upsample" { "floor" } else { "round_prefer_floor" });
    if int(case, "antialias", 0) != 0 || text(case, "keep_aspect_ratio_policy", "stretch") != "stretch" {
        return out_of_scope("antialiasing, or sizes that keep the aspect ratio");
    }
    let axes = ints(case, "axes").unwrap_or_else(|| vec![0, 1, 2, 3]);
    let scales =
        optional(case, if case.op == "Upsample" { 1 } else { 2 }).filter(|scales| !scales.data.is_empty());
    let mut resampled = Vec::new();
    for (axis, input) in [(2, h), (3, w)] {
        let at = axes.iter().position(|&other| other == axis).expect("a spatial axis");
        let (scale, output) = match (scales, optional(case, 3)) {
            (Some(scales), _) => (scales.data[at], (input as f64 * scales.data[at]) as usize),
            (None, Some(sizes)) => (sizes.data[at] / input as f64, sizes.data[at] as usize),
            (None, None) => return out_of_scope("sizes of an unsupported type"),
        };
        let (step, multiple) = (1.0 / scale, output % input == 0);
        let rule = match (mode, coordinates, rounding) {
            ("nearest", "asymmetric", "floor") => ResamplingRule::Nearest { step },
            ("nearest", "half_pixel", "round_prefer_floor") if multiple => ResamplingRule::Nearest { step },
            ("linear", "half_pixel", _) => ResamplingRule::Linear { step },
            ("linear", "pytorch_half_pixel", _) if output > 1 => ResamplingRule::Linear { step },
            ("linear", "align_corners", _) if multiple => ResamplingRule::LinearCorners,
            _ => return out_of_scope(format!("{mode}, {coordinates}, {rounding} from {input} to {output}")),
        };
        resampled.push(Resampling { input, output, rule });
    }
    let shape = [n, resampled[0].output, resampled[1].output, channels];
    let axes = [resampled[0], resampled[1]];
    let y = evaluate_one(make, Op::Resample2d(Resample2d { axes, channels, adjoint: false }), &[batch(&x)]);
    Ok(vec![channels_first(shape, y, input(case, 0))])
}
