//! From pixels to features: size, random changes and normalization of images.

use super::{Dataset, Examples};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
use std::fmt;
use std::str::FromStr;

/// Red, green and blue parts of the brightness of a pixel (ITU-R BT.601).
pub(super) const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Mean and standard deviation of each channel, which are subtracted and divided by.
///
/// As text: `none` (values stay from 0 to 1), `imagenet` (those of torchvision's networks), `half` (values from -1 to
/// 1) or `MEANS/DEVIATIONS`, such as `0.5,0.4,0.4/0.25,0.25,0.25`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Normalize {
    /// Mean and deviation of each channel; empty for none.
    channels: Vec<[f32; 2]>,
}

impl Normalize {
    /// Values from 0 to 1.
    pub fn none() -> Self {
        Normalize::default()
    }

    /// The statistics of ImageNet, which torchvision's networks expect.
    pub fn imagenet() -> Self {
        Normalize { channels: vec![[0.485, 0.229], [0.456, 0.224], [0.406, 0.225]] }
    }

    /// Mean and standard deviation of each channel.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for numbers that are not finite, a deviation that is not above 0, or no channels.
    pub fn new(channels: &[[f32; 2]]) -> Result<Self> {
        let valid =
            |[mean, deviation]: &[f32; 2]| mean.is_finite() && deviation.is_finite() && *deviation > 0.0;
        if channels.is_empty() || !channels.iter().all(valid) {
            let expected = "a finite mean and a deviation above 0 for each channel";
            return Err(Error::argument("Normalize", expected, format!("{channels:?}")));
        }
        Ok(Normalize { channels: channels.to_vec() })
    }

    fn apply(&self, features: &mut [f32]) {
        let count = self.channels.len().max(1);
        for pixel in features.chunks_exact_mut(count) {
            for (value, [mean, deviation]) in pixel.iter_mut().zip(&self.channels) {
                *value = (*value - mean) / deviation;
            }
        }
    }
}

impl FromStr for Normalize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = |text: &str| -> Option<Vec<f32>> {
            text.split(',').map(|number| number.trim().parse().ok()).collect()
        };
        match text {
            "none" => return Ok(Normalize::none()),
            "imagenet" => return Ok(Normalize::imagenet()),
            "half" => return Normalize::new(&[[0.5; 2]; 3]),
            _ => {}
        }
        let pair = text.split_once('/').and_then(|(means, deviations)| {
            let (means, deviations) = (numbers(means)?, numbers(deviations)?);
            (means.len() == deviations.len()).then(|| means.into_iter().zip(deviations))
        });
        let expected = "none, imagenet, half or MEANS/DEVIATIONS such as 0.5,0.5,0.5/0.25,0.25,0.25";
        let Some(pair) = pair else { return Err(Error::argument("normalization", expected, text)) };
        Normalize::new(&pair.map(|(mean, deviation)| [mean, deviation]).collect::<Vec<_>>())
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.channels.is_empty() {
            return write!(f, "none");
        }
        let part = |index: usize| {
            let numbers = self.channels.iter().map(|channel| channel[index].to_string());
            numbers.collect::<Vec<_>>().join(",")
        };
        write!(f, "{}/{}", part(0), part(1))
    }
}

/// Random changes of training images. As text a list of `flip`, `crop` and `color`, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    flip: bool,
    crop: bool,
    color: bool,
}

impl Augment {
    /// No changes.
    pub fn none() -> Self {
        Augment::default()
    }

    /// Mirrors half of the images, left to right.
    pub fn flip(mut self) -> Self {
        self.flip = true;
        self
    }

    /// Takes a random part of the image instead of its centre: 25 to 100 % of its area, with 3/4 to 4/3 of the ratio
    /// of the sides.
    pub fn crop(mut self) -> Self {
        self.crop = true;
        self
    }

    /// Changes brightness, contrast and, with three channels, saturation by random factors from 0.6 to 1.4.
    pub fn color(mut self) -> Self {
        self.color = true;
        self
    }

    /// Whether images are changed.
    pub fn is_some(self) -> bool {
        self != Augment::none()
    }
}

impl FromStr for Augment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(Augment::none());
        }
        text.split(',').try_fold(Augment::none(), |augment, name| match name.trim() {
            "flip" => Ok(augment.flip()),
            "crop" => Ok(augment.crop()),
            "color" => Ok(augment.color()),
            _ => Err(Error::argument("augmentation", "none, or a list of flip, crop and color", text)),
        })
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [(self.flip, "flip"), (self.crop, "crop"), (self.color, "color")];
        let names: Vec<_> = all.into_iter().filter_map(|(on, name)| on.then_some(name)).collect();
        f.write_str(&if names.is_empty() { "none".to_owned() } else { names.join(",") })
    }
}

/// How images become examples of one shape.
///
/// The largest part in the middle of the image that has the ratio of the sides is scaled (bilinear, averaging over all
/// pixels when it becomes smaller); with [`Augment::crop`] a random part. Random changes depend only on the seed, the
/// epoch and the number of the example.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageOptions {
    size: [usize; 3],
    normalize: Normalize,
    augment: Augment,
    seed: u64,
    skip_bad: bool,
}

impl ImageOptions {
    /// Examples of this shape, `[h, w, c]`, with values from 0 to 1.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if an extent is 0 or above 65,535.
    pub fn size(size: [usize; 3]) -> Result<Self> {
        if size.iter().any(|extent| !(1..=65_535).contains(extent)) {
            return Err(Error::argument("size of images", "extents from 1 to 65535", format!("{size:?}")));
        }
        let (normalize, augment) = (Normalize::none(), Augment::none());
        Ok(ImageOptions { size, normalize, augment, seed: 0, skip_bad: false })
    }

    /// Sets the normalization.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it has another number of channels.
    pub fn normalize(mut self, normalize: Normalize) -> Result<Self> {
        let [_, _, channels] = self.size;
        if !normalize.channels.is_empty() && normalize.channels.len() != channels {
            let expected = format!("none, or a mean and a deviation for each of {channels} channels");
            return Err(Error::argument("normalization", expected, normalize));
        }
        self.normalize = normalize;
        Ok(self)
    }

    /// Sets the random changes and their seed.
    pub fn augment(mut self, augment: Augment, seed: u64) -> Self {
        (self.augment, self.seed) = (augment, seed);
        self
    }

    /// Sets whether image files that cannot be read or decoded are left out and counted, instead of an error.
    pub fn skip_bad(mut self, skip: bool) -> Self {
        self.skip_bad = skip;
        self
    }

    /// Whether bad image files are left out.
    pub fn skips_bad(&self) -> bool {
        self.skip_bad
    }

    /// Shape of an example, `[h, w, c]`.
    pub fn shape(&self) -> &[usize; 3] {
        &self.size
    }

    /// Computes the features of an image with `[rows, columns]` pixels and the channels of the examples, whose largest
    /// value is `max`.
    pub(super) fn features<T: Copy + Into<f32>>(
        &self,
        (pixels, max): (&[T], f32),
        [rows, columns]: [usize; 2],
        (index, epoch): (usize, u64),
        features: &mut [f32],
    ) {
        let [h, w, c] = self.size;
        // 2^32 examples and 2^24 epochs, before the changes repeat.
        let part = epoch << 32 | index as u64 & 0xffff_ffff;
        let mut draw = Stream::new(self.seed, Purpose::Augment, part);
        let area = if self.augment.crop {
            random_part(&mut draw, [rows, columns], [h, w])
        } else {
            centre([rows, columns], [h, w])
        };
        let flipped = self.augment.flip && draw.bits() & 1 == 1;
        let (down, mut across) = (taps(area[0], h, rows), taps(area[1], w, columns));
        if flipped {
            across.reverse();
        }
        let from = across.iter().map(|tap| tap.first).min().unwrap_or(0);
        let to = across.iter().map(|tap| tap.first + tap.weights.len()).max().unwrap_or(0);
        let mut sums = vec![0.0f32; (to - from) * c];
        for (tap, features) in down.iter().zip(features.chunks_exact_mut(w * c)) {
            sums.fill(0.0);
            for (row, &weight) in (tap.first..).zip(&tap.weights) {
                let pixels = &pixels[(row * columns + from) * c..(row * columns + to) * c];
                for (sum, &pixel) in sums.iter_mut().zip(pixels) {
                    *sum += weight * pixel.into();
                }
            }
            for (tap, features) in across.iter().zip(features.chunks_exact_mut(c)) {
                features.fill(0.0);
                for (pixel, &weight) in sums[(tap.first - from) * c..].chunks_exact(c).zip(&tap.weights) {
                    for (feature, &value) in features.iter_mut().zip(pixel) {
                        *feature += weight * value;
                    }
                }
                features.iter_mut().for_each(|feature| *feature /= max);
            }
        }
        if self.augment.color {
            change_color(&mut draw, c, features);
        }
        self.normalize.apply(features);
    }
}

/// Start and length of a part of an image, down and across, in pixels.
type Area = [[f64; 2]; 2];

/// The largest part in the middle with the ratio of the sides of `size`.
fn centre([rows, columns]: [usize; 2], [h, w]: [usize; 2]) -> Area {
    let (rows, columns, h, w) = (rows as f64, columns as f64, h as f64, w as f64);
    let scale = (rows / h).min(columns / w);
    let (height, width) = (h * scale, w * scale);
    [[(rows - height) / 2.0, height], [(columns - width) / 2.0, width]]
}

fn random_part(draw: &mut Stream, [rows, columns]: [usize; 2], [h, w]: [usize; 2]) -> Area {
    let (rows, columns) = (rows as f64, columns as f64);
    let area = rows * columns * f64::from(draw.uniform(0.25, 1.0));
    let change = f64::from(draw.uniform(0.75, 1.0));
    let change = if draw.bits() & 1 == 1 { 1.0 / change } else { change };
    let ratio = change * w as f64 / h as f64;
    let (height, width) = ((area / ratio).sqrt(), (area * ratio).sqrt());
    let fit = (rows / height).min(columns / width).min(1.0);
    let (height, width) = (height * fit, width * fit);
    let start = |draw: &mut Stream, free: f64| free.max(0.0) * f64::from(draw.unit());
    [[start(draw, rows - height), height], [start(draw, columns - width), width]]
}

/// The pixels that a pixel of the result is a weighted mean of.
struct Tap {
    first: usize,
    weights: Vec<f32>,
}

/// The taps of `count` pixels that cover a part of `pixels` pixels: a triangle as wide as two pixels, of the result if
/// that has fewer.
fn taps([start, length]: [f64; 2], count: usize, pixels: usize) -> Vec<Tap> {
    let scale = length / count as f64;
    let support = scale.max(1.0);
    let one = |index: usize| {
        let centre = start + (index as f64 + 0.5) * scale;
        let first = ((centre - support).floor().max(0.0) as usize).min(pixels - 1);
        let end = ((centre + support).ceil().max(0.0) as usize).clamp(first + 1, pixels);
        let weight = |pixel: usize| (1.0 - (pixel as f64 + 0.5 - centre).abs() / support).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        Tap { first, weights: (first..end).map(|pixel| (weight(pixel) / sum) as f32).collect() }
    };
    (0..count).map(one).collect()
}

/// Changes brightness, then contrast, then saturation; values stay from 0 to 1.
fn change_color(draw: &mut Stream, channels: usize, features: &mut [f32]) {
    let [brightness, contrast, saturation] = [(); 3].map(|()| draw.uniform(0.6, 1.4));
    let luma = |pixel: &[f32]| match pixel {
        [r, g, b] => LUMA[0] * r + LUMA[1] * g + LUMA[2] * b,
        other => other.iter().sum::<f32>() / other.len() as f32,
    };
    features.iter_mut().for_each(|value| *value = (*value * brightness).clamp(0.0, 1.0));
    let sum: f64 = features.chunks_exact(channels).map(|pixel| f64::from(luma(pixel))).sum();
    let mean = (sum / (features.len() / channels) as f64) as f32;
    features.iter_mut().for_each(|value| *value = (mean + contrast * (*value - mean)).clamp(0.0, 1.0));
    if channels == 3 {
        for pixel in features.chunks_exact_mut(3) {
            let grey = luma(pixel);
            pixel.iter_mut().for_each(|value| *value = (grey + saturation * (*value - grey)).clamp(0.0, 1.0));
        }
    }
}

/// A data set of images whose examples are transformed when they are read: changed at random, scaled and normalized.
#[derive(Clone, Debug)]
pub struct TransformedImages {
    data: Dataset,
    pixels: [usize; 2],
    options: ImageOptions,
}

impl TransformedImages {
    /// Images `[h, w, c]` with values from 0 to 1, and the shape and the changes of their examples.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless the examples are images with the channels of the options.
    pub fn new(data: Dataset, options: ImageOptions) -> Result<Self> {
        let channels = options.size[2];
        match *data.example_shape() {
            [h, w, c] if c == channels => Ok(TransformedImages { data, pixels: [h, w], options }),
            ref other => {
                let expected = format!("images with {channels} channels");
                Err(Error::shape(data.name(), expected, format!("{other:?}")))
            }
        }
    }
}

impl Examples for TransformedImages {
    fn name(&self) -> &str {
        self.data.name()
    }

    fn example_shape(&self) -> &[usize] {
        &self.options.size
    }

    fn labels(&self) -> &[u32] {
        self.data.labels()
    }

    fn classes(&self) -> usize {
        self.data.classes()
    }

    fn target_shape(&self) -> Option<&[usize]> {
        self.data.target_shape()
    }

    fn read(&self, index: usize, epoch: u64, features: &mut [f32], target: &mut [f32]) -> Result<bool> {
        let len = self.data.example_shape().iter().product::<usize>();
        let image = &self.data.features()[index * len..][..len];
        self.options.features((image, 1.0), self.pixels, (index, epoch), features);
        target.copy_from_slice(&self.data.targets()[index * target.len()..][..target.len()]);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(values: &[f32], size: [usize; 2], to: [usize; 3]) -> Vec<f32> {
        let mut features = vec![f32::NAN; to.iter().product()];
        ImageOptions::size(to).unwrap().features((values, 1.0), size, (0, 0), &mut features);
        features
    }

    #[test]
    fn the_same_size_keeps_the_bits() {
        let values: Vec<f32> = (0..60).map(|i| (i * i % 61) as f32 / 61.0).collect();
        assert_eq!(scaled(&values, [4, 5], [4, 5, 3]), values);
    }

    #[test]
    fn smaller_images_are_means_and_the_centre_is_taken() {
        // A triangle of 4 pixels, cut at the edge: (3 * 0 + 3 * 1 + 1 * 2) / 7 of the numbers 0, 1, 2, ...
        let row: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let values: Vec<f32> = [row.clone(), row].concat();
        let got = scaled(&values, [2, 8], [1, 1, 1]);
        // The part in the middle are columns 3 and 4; its triangle reaches one column further on each side.
        assert_eq!(got, [3.5]);
        let got = scaled(&values, [2, 8], [2, 8, 1]);
        assert_eq!(got, values);
        let wide: Vec<f32> = (0..16).map(|i| (i % 8) as f32).collect();
        let half = scaled(&wide, [2, 8], [1, 4, 1]);
        let edge = (3.0 * 0.0 + 3.0 * 1.0 + 1.0 * 2.0) / 7.0;
        for (got, expected) in half.iter().zip([edge, 2.5, 4.5, 7.0 - edge]) {
            assert!((got - expected).abs() < 1e-5, "{half:?}");
        }
    }

    #[test]
    fn larger_images_are_interpolated() {
        let got = scaled(&[0.0, 1.0, 0.0, 1.0], [2, 2], [4, 4, 1]);
        assert_eq!(got[..4], [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(got[12..], got[..4]);
    }

    #[test]
    fn changes_depend_on_seed_epoch_and_example_and_flip_mirrors() {
        let values: Vec<f32> = (0..75).map(|i| (i % 7) as f32 / 7.0).collect();
        let of = |augment: Augment, seed, index, epoch| {
            let options = ImageOptions::size([5, 5, 3]).unwrap().augment(augment, seed);
            let mut features = vec![0.0; 75];
            options.features((&values, 1.0), [5, 5], (index, epoch), &mut features);
            features
        };
        let all = Augment::none().flip().crop().color();
        let first = of(all, 1, 2, 3);
        assert_eq!(first, of(all, 1, 2, 3));
        for other in [of(all, 2, 2, 3), of(all, 1, 3, 3), of(all, 1, 2, 4)] {
            assert_ne!(first, other);
        }
        assert!((0..200).all(|i| of(all, 0, i, 0).iter().all(|value| (0.0..=1.0).contains(value))));
        let mirrored: Vec<f32> =
            values.chunks(15).flat_map(|row| row.chunks(3).rev().flatten().copied()).collect();
        let flips = (0..200).filter(|&index| {
            let got = of(Augment::none().flip(), 5, index, 0);
            assert!(got == values || got == mirrored);
            got == mirrored
        });
        assert!((70..130).contains(&flips.count()));
    }

    #[test]
    fn random_parts_are_inside_and_have_the_documented_sizes() {
        let mut draw = Stream::new(1, Purpose::Augment, 0);
        for (pixels, size) in [([30, 50], [224, 224]), ([500, 20], [10, 40]), ([1, 1], [3, 3])] {
            for _ in 0..500 {
                let [[y, height], [x, width]] = random_part(&mut draw, pixels, size);
                let [rows, columns] = pixels.map(|extent| extent as f64);
                assert!(y >= 0.0 && x >= 0.0 && y + height <= rows + 1e-9 && x + width <= columns + 1e-9);
                let ratio = width / height * size[0] as f64 / size[1] as f64;
                assert!((0.749..1.334).contains(&ratio), "{ratio}");
                assert!(height * width <= rows * columns * 1.000_001);
            }
        }
    }

    #[test]
    fn texts_are_parsed_as_printed() {
        for text in ["none", "0.5,0.25/1,2"] {
            assert_eq!(text.parse::<Normalize>().unwrap().to_string(), text);
        }
        assert_eq!("imagenet".parse::<Normalize>().unwrap(), Normalize::imagenet());
        assert_eq!(Normalize::imagenet().to_string().parse::<Normalize>().unwrap(), Normalize::imagenet());
        for text in ["", "imagenett", "1,2/3", "1/0", "1/nan", "inf/1", "/", "1", "1,/1,1"] {
            assert!(text.parse::<Normalize>().is_err(), "{text}");
        }
        for text in ["none", "flip", "flip,crop,color"] {
            assert_eq!(text.parse::<Augment>().unwrap().to_string(), text);
        }
        assert!("flip,".parse::<Augment>().is_err() && "flop".parse::<Augment>().is_err());
        let mut values = [0.5, 1.0, 0.0];
        "half".parse::<Normalize>().unwrap().apply(&mut values);
        assert_eq!(values, [0.0, 1.0, -1.0]);
        let options = ImageOptions::size([4, 4, 1]).unwrap();
        assert!(options.normalize(Normalize::imagenet()).is_err());
        assert!(ImageOptions::size([4, 0, 1]).is_err());
    }
}
