//! The network of training cases.

use crate::error::Result;
use crate::graph::Graph;
use crate::loss::Loss;
use crate::model::{Model, Updates};
use crate::optimizer::Optimizer;
use crate::shape::Padding;

/// Training steps of a small network with convolutions, batch norm, pooling and a dense layer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Training {
    /// The optimizer.
    pub optimizer: Optimizer,
}

/// Rows of a batch.
pub(super) const BATCH: usize = 6;

/// The extents of an example.
pub(super) const IMAGE: [usize; 3] = [8, 8, 3];

/// Classes of the data.
pub(super) const CLASSES: usize = 4;

impl Training {
    pub(super) fn model() -> Result<Model> {
        Model::input(IMAGE)
            .conv2d("conv1", 8, [3, 3], |c| c.padding(Padding::Same))
            .batch_norm("norm")
            .relu()
            .max_pool2d([2, 2])
            .conv2d("conv2", 6, [3, 3], |c| c.padding(Padding::Same))
            .relu()
            .flatten()
            .dense("fc", CLASSES)
            .build()
    }

    pub(super) fn graph(&self) -> Result<Graph> {
        let model = Self::model()?;
        let updates = Updates::new(&model, &self.optimizer, false)?;
        Ok(model.training_graph(BATCH, Loss::SoftmaxCrossEntropy, updates)?.graph)
    }

    pub(super) fn shapes() -> Vec<Vec<usize>> {
        vec![[&[BATCH][..], &IMAGE].concat(), vec![BATCH]]
    }
}
