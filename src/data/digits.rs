//! The embedded data set of handwritten digits; `README.md` in this folder names its authors and licence.

use super::Dataset;
use crate::error::{Error, Result};
use std::io::Read;

const FILE: &[u8] = include_bytes!("digits.csv.gz");
const NAME: &str = "digits.csv.gz";
const ROWS: usize = 1_797;
const TRAIN_ROWS: usize = 1_437;
const PIXELS: usize = 64;
const MAX_PIXEL: u32 = 16;
const CLASSES: usize = 10;

/// Handwritten digits, 8 x 8 pixels, in ten classes: *Optical Recognition of Handwritten Digits*, E. Alpaydin
/// and C. Kaynak, 1998, under CC BY 4.0. Embedded in the crate.
///
/// Examples have the shape `[8, 8, 1]`; a pixel is from 0 (paper) to 1 (ink) in steps of 1/16. The training
/// set and the test set share no row.
#[derive(Clone, Copy, Debug)]
pub struct Digits;

impl Digits {
    /// Loads the training set: 1,437 examples.
    ///
    /// # Errors
    /// [`Error::Data`] if the embedded file is damaged.
    pub fn train() -> Result<Dataset> {
        let (mut features, mut labels) = load()?;
        features.truncate(TRAIN_ROWS * PIXELS);
        labels.truncate(TRAIN_ROWS);
        Dataset::new("digits (train)", [8, 8, 1], features, labels, CLASSES)
    }

    /// Loads the test set: 360 examples, mostly by other writers than those of the training set.
    ///
    /// # Errors
    /// [`Error::Data`] if the embedded file is damaged.
    pub fn test() -> Result<Dataset> {
        let (features, labels) = load()?;
        let features = features.into_iter().skip(TRAIN_ROWS * PIXELS).collect();
        let labels = labels.into_iter().skip(TRAIN_ROWS).collect();
        Dataset::new("digits (test)", [8, 8, 1], features, labels, CLASSES)
    }
}

fn load() -> Result<(Vec<f32>, Vec<u32>)> {
    let (features, labels) = parse(&decompress(FILE)?)?;
    if labels.len() != ROWS {
        return Err(error("end of file", format!("expected {ROWS} lines, got {}", labels.len())));
    }
    Ok((features, labels))
}

fn error(place: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Data { path: NAME.into(), place: place.into(), why: why.into(), source: None }
}

fn decompress(compressed: &[u8]) -> Result<String> {
    let mut text = String::new();
    match flate2::read::GzDecoder::new(compressed).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(why) => Err(Error::Data {
            path: NAME.into(),
            place: "gzip stream".to_owned(),
            why: why.to_string(),
            source: Some(why.into()),
        }),
    }
}

/// Parses lines of 64 pixels and a class into features (pixel / 16) and labels.
fn parse(text: &str) -> Result<(Vec<f32>, Vec<u32>)> {
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line_error = |why: String| error(format!("line {}", index + 1), why);
        let columns = line.split(',').count();
        if columns != PIXELS + 1 {
            return Err(line_error(format!("expected {} columns, got {columns}", PIXELS + 1)));
        }
        for (column, field) in line.split(',').enumerate() {
            let max = if column < PIXELS { MAX_PIXEL } else { CLASSES as u32 - 1 };
            let value = match field.trim().parse::<u32>() {
                Ok(value) if value <= max => value,
                _ => {
                    let column = column + 1;
                    return Err(line_error(format!("column {column}: expected 0 to {max}, got {field:?}")));
                }
            };
            if column < PIXELS {
                features.push(value as f32 / MAX_PIXEL as f32);
            } else {
                labels.push(value);
            }
        }
    }
    Ok((features, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a line of the embedded file whose pixels are all `pixel`.
    fn line(pixel: &str, label: &str) -> String {
        format!("{}{label}", format!("{pixel},").repeat(PIXELS))
    }

    /// Returns the position and reason of the error that `parse` must return.
    fn parse_error(text: &str) -> (String, String) {
        match parse(text) {
            Err(Error::Data { place, why, .. }) => (place, why),
            other => panic!("expected a data error, got {other:?}"),
        }
    }

    #[test]
    fn train_and_test_sets_have_documented_sizes_and_ranges() {
        let (train, test) = (Digits::train().unwrap(), Digits::test().unwrap());
        assert_eq!((train.len(), test.len()), (1_437, 360));
        for data in [&train, &test] {
            assert_eq!((data.example_shape(), data.classes()), (&[8, 8, 1][..], 10));
            assert!(data.features().iter().all(|x| (0.0..=1.0).contains(x)));
            assert_eq!(data.labels().iter().max(), Some(&9));
        }
    }

    #[test]
    fn train_and_test_sets_are_the_rows_of_the_file_in_order() {
        let train = Digits::train().unwrap();
        assert_eq!(train.features()[..8], [0.0, 0.0, 0.3125, 0.8125, 0.5625, 0.0625, 0.0, 0.0]);
        assert_eq!(train.labels()[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let (features, labels) = load().unwrap();
        let test = Digits::test().unwrap();
        assert_eq!(features, [train.features(), test.features()].concat());
        assert_eq!(labels, [train.labels(), test.labels()].concat());
    }

    #[test]
    fn parse_accepts_lf_and_crlf() {
        let (features, labels) = parse(&format!("{}\r\n{}\n", line("16", "9"), line(" 4", "0"))).unwrap();
        assert_eq!(features, [[1.0; 64], [0.25; 64]].concat());
        assert_eq!(labels, [9, 0]);
    }

    #[test]
    fn wrong_column_count_is_reported_with_its_line() {
        let good = line("1", "2");
        let (place, why) = parse_error(&format!("{good}\n{good}\n{}", &good[2..]));
        assert_eq!((place.as_str(), why.as_str()), ("line 3", "expected 65 columns, got 64"));
        assert_eq!(parse_error(&format!("{good},5")).1, "expected 65 columns, got 66");
        assert_eq!(parse_error(&format!("{good}\n\n{good}")).0, "line 2");
    }

    #[test]
    fn invalid_value_is_reported_with_line_and_column() {
        for bad in ["17", "x", "-1", "", "1.5", "99999999999999999999"] {
            let (place, why) = parse_error(&format!("{}\n{}", line("0", "0"), line(bad, "0")));
            assert_eq!(place, "line 2");
            assert_eq!(why, format!("column 1: expected 0 to 16, got {bad:?}"));
        }
        assert_eq!(parse_error(&line("16", "10")).1, "column 65: expected 0 to 9, got \"10\"");
    }

    #[test]
    fn damaged_gzip_stream_is_an_error() {
        assert_eq!(decompress(FILE).unwrap().lines().count(), ROWS);
        let mut flipped = FILE.to_vec();
        flipped[FILE.len() / 2] ^= 0x55;
        for bad in [&FILE[..FILE.len() / 2], &FILE[..FILE.len() - 1], &flipped, &FILE[1..], &[]] {
            let result = decompress(bad);
            assert!(matches!(result, Err(Error::Data { .. })), "{} bytes", bad.len());
        }
    }
}
