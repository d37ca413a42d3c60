//! Models that are ready to train.

use super::Model;
use crate::error::Result;
use crate::shape::Padding::Same;

impl Model {
    /// The network of the embedded digits, 8x8x1: conv3x3 16, conv3x3 32, max-pool 2, dense 64, dense 10, ReLU between.
    ///
    /// # Errors
    /// None in practice: its shapes fit. So for the other models here.
    pub fn digits() -> Result<Self> {
        Model::input([8, 8, 1])
            .conv2d("conv1", 16, [3, 3], |c| c.padding(Same))
            .relu()
            .conv2d("conv2", 32, [3, 3], |c| c.padding(Same))
            .relu()
            .max_pool2d([2, 2])
            .flatten()
            .dense("fc1", 64)
            .relu()
            .dense("fc2", 10)
            .build()
    }

    /// For the MNIST family, 28x28x1: conv5x5 32, pool, conv5x5 64, pool, dense 256, dense 10, ReLU between.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn lenet28() -> Result<Self> {
        Model::input([28, 28, 1])
            .conv2d("conv1", 32, [5, 5], |c| c.padding(Same))
            .relu()
            .max_pool2d([2, 2])
            .conv2d("conv2", 64, [5, 5], |c| c.padding(Same))
            .relu()
            .max_pool2d([2, 2])
            .flatten()
            .dense("fc1", 256)
            .relu()
            .dense("fc2", 10)
            .build()
    }

    /// For CIFAR-10, 32x32x3: conv3x3 32, 32, pool, 64, 64, pool, 128, pool, dense 256, dense 10, ReLU between.
    ///
    /// # Errors
    /// As [`Model::digits`].
    pub fn cifar() -> Result<Self> {
        Model::input([32, 32, 3])
            .conv2d("conv1", 32, [3, 3], |c| c.padding(Same))
            .relu()
            .conv2d("conv2", 32, [3, 3], |c| c.padding(Same))
            .relu()
            .max_pool2d([2, 2])
            .conv2d("conv3", 64, [3, 3], |c| c.padding(Same))
            .relu()
            .conv2d("conv4", 64, [3, 3], |c| c.padding(Same))
            .relu()
            .max_pool2d([2, 2])
            .conv2d("conv5", 128, [3, 3], |c| c.padding(Same))
            .relu()
            .max_pool2d([2, 2])
            .flatten()
            .dense("fc1", 256)
            .relu()
            .dense("fc2", 10)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_the_parameters_that_their_sizes_give() {
        let count = |model: Result<Model>| -> usize {
            model.unwrap().parameters().iter().map(|p| p.shape.elements()).sum()
        };
        // Kernels and biases, layer by layer.
        let digits = (9 * 16 + 16) + (9 * 16 * 32 + 32) + (512 * 64 + 64) + (64 * 10 + 10);
        let lenet28 = (25 * 32 + 32) + (25 * 32 * 64 + 64) + (3136 * 256 + 256) + (256 * 10 + 10);
        let convs = (27 * 32 + 32) + (288 * 32 + 32) + (288 * 64 + 64) + (576 * 64 + 64) + (576 * 128 + 128);
        assert_eq!(count(Model::digits()), digits);
        assert_eq!(count(Model::lenet28()), lenet28);
        assert_eq!(count(Model::cifar()), convs + (2048 * 256 + 256) + (256 * 10 + 10));
    }
}
