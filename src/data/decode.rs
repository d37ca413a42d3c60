//! Decoding of PNG, JPEG and WebP files.

use super::transform::ImageOptions;
use crate::error::{Error, Result};
use crate::file;
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use std::io::Cursor;
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Maximum size in bytes of a decoded image: one that claims to be larger is refused before memory is allocated.
const MAX_BYTES: u64 = 512 << 20;

/// Decodes an image file, recognized by its content, and writes the features of an example into `features`.
///
/// # Errors
/// [`Error::Io`], [`Error::HostMemory`]; [`Error::Data`] if it is no image of the three formats, or damaged.
pub(super) fn features(
    path: &Path,
    options: &ImageOptions,
    place: (usize, u64),
    features: &mut [f32],
) -> Result<()> {
    let bytes = file::read(path)?;
    let channels = options.shape()[2];
    // A defect of a decoder concerns this file, as damage does.
    let decoded = std::panic::catch_unwind(|| decode(&bytes));
    let decoded = decoded.unwrap_or_else(|_| Err("the decoder failed".to_owned()));
    let image = decoded.map_err(|why| Error::Data {
        path: path.to_owned(),
        place: "image".to_owned(),
        why,
        source: None,
    })?;
    let size = [image.height() as usize, image.width() as usize];
    let stored = usize::from(image.color().channel_count());
    if image.color().bytes_per_pixel() == 2 * image.color().channel_count() {
        let values = match image {
            DynamicImage::ImageLuma16(image) => image.into_raw(),
            DynamicImage::ImageLumaA16(image) => image.into_raw(),
            DynamicImage::ImageRgb16(image) => image.into_raw(),
            DynamicImage::ImageRgba16(image) => image.into_raw(),
            other => other.into_rgb16().into_raw(),
        };
        let values = with_channels(values, stored, channels, u64::from(u16::MAX), |value| value as u16);
        options.features((&values, f32::from(u16::MAX)), size, place, features);
    } else {
        let values = image.into_bytes();
        let values = with_channels(values, stored, channels, u64::from(u8::MAX), |value| value as u8);
        options.features((&values, f32::from(u8::MAX)), size, place, features);
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> std::result::Result<DynamicImage, String> {
    if bytes.is_empty() {
        return Err("expected an image, got an empty file".to_owned());
    }
    let (mut image, orientation) =
        if bytes.starts_with(&[0xff, 0xd8]) { decode_jpeg(bytes)? } else { decode_other(bytes)? };
    image.apply_orientation(orientation);
    Ok(image)
}

fn check_size(width: u64, height: u64, bytes: u64) -> std::result::Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("expected an image with pixels, got {width} x {height}"));
    }
    if bytes > MAX_BYTES {
        return Err(format!("expected an image of at most {MAX_BYTES} bytes, got {width} x {height} pixels"));
    }
    Ok(())
}

/// Decodes a JPEG file. Unlike most viewers, it refuses one of which a part is missing or damaged.
fn decode_jpeg(bytes: &[u8]) -> std::result::Result<(DynamicImage, Orientation), String> {
    let limits = DecoderOptions::default().set_strict_mode(true).set_max_width(65_535).set_max_height(65_535);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), limits);
    decoder.decode_headers().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("expected the size of the image")?;
    check_size(width as u64, height as u64, 3 * width as u64 * height as u64)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let colors = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(limits.jpeg_set_out_colorspace(colors));
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let (width, height) = (width as u32, height as u32);
    let image = if grey {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
    };
    let image = image.ok_or("expected all pixels of the image")?;
    Ok((image, orientation.unwrap_or(Orientation::NoTransforms)))
}

fn decode_other(bytes: &[u8]) -> std::result::Result<(DynamicImage, Orientation), String> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::WebP)) {
        return Err("expected a PNG, JPEG or WebP image, got another format".to_owned());
    }
    let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into(), decoder.total_bytes())?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    Ok((image, orientation))
}

/// Returns pixels with 1 or 3 channels instead of `stored`: grey, grey and alpha, colors, or colors and alpha.
/// Transparent pixels are on white.
fn with_channels<T: Copy + Into<u64>>(
    values: Vec<T>,
    stored: usize,
    channels: usize,
    max: u64,
    narrow: impl Fn(u64) -> T,
) -> Vec<T> {
    if stored == channels {
        return values;
    }
    let mut converted = Vec::with_capacity(values.len() / stored * channels);
    for pixel in values.chunks_exact(stored) {
        let (colors, alpha) = match *pixel {
            [grey, alpha] => ([grey; 3], Some(alpha)),
            [r, g, b, alpha] => ([r, g, b], Some(alpha)),
            [r, g, b] => ([r, g, b], None),
            _ => ([pixel[0]; 3], None),
        };
        let alpha = alpha.map_or(max, Into::into);
        let [r, g, b] = colors.map(|value| (value.into() * alpha + max * (max - alpha) + max / 2) / max);
        match channels {
            1 if stored < 3 => converted.push(narrow(r)),
            // The weights of LUMA.
            1 => converted.push(narrow((299 * r + 587 * g + 114 * b + 500) / 1000)),
            _ => converted.extend([r, g, b].map(&narrow)),
        }
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_converted_and_transparent_pixels_are_white() {
        let convert = |values: &[u8], stored, channels| {
            with_channels(values.to_vec(), stored, channels, 255, |value| value as u8)
        };
        assert_eq!(convert(&[7, 9], 1, 3), [7, 7, 7, 9, 9, 9]);
        assert_eq!(convert(&[7, 255, 9, 0], 2, 1), [7, 255]);
        assert_eq!(convert(&[0, 128], 2, 3), [127; 3]);
        assert_eq!(convert(&[10, 20, 30, 255, 10, 20, 30, 0], 4, 3), [10, 20, 30, 255, 255, 255]);
        assert_eq!(convert(&[255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255], 3, 1), [76, 150, 29, 255]);
        let deep = with_channels(vec![u16::MAX, 0, 1, u16::MAX], 4, 3, 65_535, |value| value as u16);
        assert_eq!(deep, [u16::MAX, 0, 1]);
    }
}
