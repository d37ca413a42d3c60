//! The data sets that the page trains on.

use crate::settings::wrong;
use frazil::data::idx_in_memory;
use frazil::{Dataset, Digits};
use js_sys::Uint8Array;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// Share of the images of each class that become the test set, and the seed that chooses them.
const TEST: (f64, u64) = (0.2, 1);

/// A training set and a test set.
#[wasm_bindgen]
#[derive(Clone)]
pub struct Data {
    pub(crate) sets: Rc<Sets>,
}

/// The contents of [`Data`].
pub struct Sets {
    pub train: Dataset,
    pub test: Dataset,
    /// The value of the flag `--data` of `frazil train`.
    pub flag: String,
    /// Names of the classes.
    pub classes: Vec<String>,
}

impl Data {
    fn new(train: Dataset, test: Dataset, flag: String, classes: Option<Vec<String>>) -> Self {
        let classes =
            classes.unwrap_or_else(|| (0..train.classes()).map(|class| class.to_string()).collect());
        Data { sets: Rc::new(Sets { train, test, flag, classes }) }
    }

    fn read_idx(name: &str, names: &[String], contents: &[Uint8Array]) -> frazil::Result<Self> {
        let contents: Vec<_> = contents.iter().map(Uint8Array::to_vec).collect();
        let files: Vec<_> =
            names.iter().map(String::as_str).zip(contents.iter().map(Vec::as_slice)).collect();
        let (train, test) = idx_in_memory(name, &files)?;
        Ok(Self::new(train, test, format!("idx:{name}"), None))
    }
}

#[wasm_bindgen]
impl Data {
    /// The digits of the library.
    pub fn digits() -> Result<Data, JsError> {
        Ok(Self::new(Digits::train()?, Digits::test()?, "digits".to_owned(), None))
    }

    /// The four IDX files of a data set like MNIST, with or without gzip.
    pub fn idx(name: &str, names: Vec<String>, contents: Vec<Uint8Array>) -> Result<Data, JsError> {
        Ok(Self::read_idx(name, &names, &contents)?)
    }

    /// Images of one size, `[height, width, channels]`, with the numbers of their classes. A fifth of each class becomes
    /// the test set.
    pub fn images(
        name: &str,
        shape: &[u32],
        features: Vec<f32>,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Data, JsError> {
        if classes.len() < 2 {
            return Err(wrong(name, "two or more classes", classes.len()).into());
        }
        let shape: Vec<_> = shape.iter().map(|&extent| extent as usize).collect();
        let all = Dataset::new(name, shape, features, labels, classes.len())?;
        let (train, test) = all.split(TEST.0, TEST.1)?;
        Ok(Self::new(train, test, format!("folder:{name}"), Some(classes)))
    }

    /// Random images, to measure the speed with; the test set is the training set.
    pub fn synthetic(shape: &[u32], classes: usize, images: usize) -> Result<Data, JsError> {
        let shape: Vec<_> = shape.iter().map(|&extent| extent as usize).collect();
        let data = frazil::data::synthetic("synthetic", shape, classes, images, 1)?;
        Ok(Self::new(data.clone(), data, "synthetic".to_owned(), None))
    }

    /// As the flag `--data` of `frazil train`.
    #[wasm_bindgen(getter)]
    pub fn flag(&self) -> String {
        self.sets.flag.clone()
    }
}

impl Sets {
    /// The digests of both sets, as `frazil train` notes them in a checkpoint.
    pub fn digests(&self) -> String {
        format!("{:016x}{:016x}", self.train.digest(), self.test.digest())
    }
}
