//! All integration tests in one binary, so that they share one open GPU device.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accumulation;
mod activations;
mod adjoint;
mod backward;
mod backward_networks;
mod batch_norm;
mod checkpoint;
mod contents;
mod contract;
mod cooperative;
mod cooperative_gradients;
mod custom_loss;
mod data_files;
mod dropout;
mod errors;
mod example_norm;
mod files;
mod freeze;
mod freeze_effects;
mod freeze_matrix;
mod freeze_methods;
mod frozen_prefix;
mod golden;
#[cfg(feature = "images")]
mod images;
#[cfg(feature = "keras")]
mod keras;
mod limits;
mod loader;
mod long_sums;
mod losses;
mod memory;
mod model_graphs;
mod models;
mod module_order;
mod npy;
mod onnx;
mod onnx_networks;
mod op_table;
mod optimizers;
mod predictor;
mod properties;
mod ranks;
mod reference_gradients;
mod reliability;
mod residual;
mod resnet50;
mod saliency;
mod savings;
mod scores;
mod soak;
mod spatial;
mod suite;
mod support;
mod thaw;
mod tiles;
mod torch;
#[cfg(feature = "pytorch")]
mod torch_files;
mod training;
mod winograd;
mod zoo;
