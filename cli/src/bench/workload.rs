//! The workloads that `--workload` names.

use super::invalid;
use frazil::{Model, Result};
use std::fmt;

/// A workload that `--workload` names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Training steps of a model.
    Model(&'static str),
    /// Training steps of a model without the optimizer: forward and backward pass.
    Gradients(&'static str),
    /// A 3x3 convolution with 64 input and output channels on 32x32 images: forward and both gradients.
    ConvLayer,
    /// A forward convolution.
    Convolution(&'static Convolution),
    /// A square GEMM.
    Gemm(usize),
    /// A masked update of this number of weights.
    Update(usize),
}

/// A forward convolution with stride 1, without padding, with square images and kernels.
#[derive(PartialEq, Eq)]
pub struct Convolution {
    pub side: usize,
    pub c_in: usize,
    pub batch: usize,
    pub kernel: usize,
    pub c_out: usize,
}

/// The convolutions that llama.cpp's `test-backend-ops perf -o CONV_2D` measures, in its order.
static LLAMA: [Convolution; 11] = [
    Convolution { side: 19, c_in: 256, batch: 16, kernel: 4, c_out: 4096 },
    Convolution { side: 19, c_in: 8, batch: 16, kernel: 4, c_out: 128 },
    Convolution { side: 19, c_in: 8, batch: 16, kernel: 4, c_out: 130 },
    Convolution { side: 19, c_in: 4, batch: 16, kernel: 2, c_out: 4 },
    Convolution { side: 224, c_in: 3, batch: 1, kernel: 3, c_out: 8 },
    Convolution { side: 224, c_in: 1, batch: 1, kernel: 2, c_out: 8 },
    Convolution { side: 224, c_in: 1, batch: 8, kernel: 2, c_out: 8 },
    Convolution { side: 58, c_in: 32, batch: 1, kernel: 3, c_out: 64 },
    Convolution { side: 58, c_in: 32, batch: 8, kernel: 3, c_out: 64 },
    Convolution { side: 16, c_in: 128, batch: 8, kernel: 3, c_out: 512 },
    Convolution { side: 1536, c_in: 32, batch: 1, kernel: 3, c_out: 64 },
];

/// The workloads that `all` stands for.
const ALL: [&str; 9] = [
    "digits",
    "lenet28",
    "cifar",
    "resnet20",
    "conv-layer",
    "gemm-256",
    "gemm-512",
    "gemm-1024",
    "update-1000000",
];

/// The workloads that `published` stands for.
const PUBLISHED: [&str; 3] = ["resnet50-gradients", "resnet50", "conv-llama"];

impl Workload {
    /// Returns the workloads that a name stands for: one, or those of a group.
    pub fn parse(name: &str) -> Result<Vec<Self>> {
        let group = |names: &[&str]| -> Result<Vec<Self>> {
            Ok(names.iter().map(|name| Self::parse(name)).collect::<Result<Vec<_>>>()?.concat())
        };
        let model = |name: &str| Model::NAMES.into_iter().find(|model| *model == name);
        let number = |prefix: &str| name.strip_prefix(prefix).and_then(|n| n.parse().ok());
        let convolutions = || LLAMA.iter().map(Workload::Convolution);
        let one = if let Some(model) = model(name) {
            Workload::Model(model)
        } else if let Some(model) = name.strip_suffix("-gradients").and_then(model) {
            Workload::Gradients(model)
        } else if let Some(convolution) = convolutions().find(|workload| workload.to_string() == name) {
            convolution
        } else {
            match (name, number("gemm-"), number("update-")) {
                ("all", ..) => return group(&ALL),
                ("published", ..) => return group(&PUBLISHED),
                ("conv-llama", ..) => return Ok(convolutions().collect()),
                ("conv-layer", ..) => Workload::ConvLayer,
                (_, Some(n @ 1..=16_384), _) => Workload::Gemm(n),
                (_, _, Some(n @ 1..=1_000_000_000)) => Workload::Update(n),
                _ => {
                    let models = Model::NAMES.join(", ");
                    let expected = format!(
                        "{models}, each also with -gradients, conv-layer, conv-llama, gemm-N (up to 16384), update-N, published or all"
                    );
                    return Err(invalid("--workload", &expected, name));
                }
            }
        };
        Ok(vec![one])
    }

    /// Whether the workload trains a model, so that elements can be frozen.
    pub fn trains(self) -> bool {
        matches!(self, Workload::Model(_))
    }

    /// Number of examples in a batch: `given` with `--batch`, unless the workload has a fixed size.
    pub fn batch(self, given: Option<usize>) -> usize {
        match self {
            // As the public tables measure it.
            Workload::Model("resnet50") | Workload::Gradients("resnet50") => given.unwrap_or(4),
            Workload::Model(_) | Workload::Gradients(_) => given.unwrap_or(64),
            Workload::ConvLayer => given.unwrap_or(16),
            Workload::Convolution(convolution) => convolution.batch,
            Workload::Gemm(_) | Workload::Update(_) => 1,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Workload::Model(name) => f.pad(name),
            Workload::Gradients(name) => f.pad(&format!("{name}-gradients")),
            Workload::ConvLayer => f.pad("conv-layer"),
            Workload::Convolution(Convolution { side, c_in, batch, kernel, c_out }) => {
                f.pad(&format!("conv-llama-{side}x{side}x{c_in}x{batch}-{kernel}x{kernel}x{c_out}"))
            }
            Workload::Gemm(n) => f.pad(&format!("gemm-{n}")),
            Workload::Update(n) => f.pad(&format!("update-{n}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_groups_and_of_their_workloads_are_parsed() {
        for (group, count) in [("all", 9), ("published", 13), ("conv-llama", 11), ("cifar", 1)] {
            let workloads = Workload::parse(group).unwrap();
            assert_eq!(workloads.len(), count, "{group}");
            for workload in workloads {
                assert!(Workload::parse(&workload.to_string()).unwrap() == [workload], "{workload}");
            }
        }
        for wrong in ["resnet", "-gradients", "gemm-0", "conv-llama-", "update-x", ""] {
            let error = Workload::parse(wrong).err().unwrap().to_string();
            assert!(error.contains("resnet50") && error.contains("--workload"), "{error}");
        }
        // llama.cpp names the first of its cases by the sizes of its GEMM.
        let Convolution { side, c_in, batch, kernel, c_out } = &LLAMA[0];
        let pixels = batch * (side - kernel + 1).pow(2);
        assert_eq!([pixels, kernel * kernel * c_in, *c_out], [4096; 3]);
    }

    #[test]
    fn batches_have_the_size_of_the_workload_or_of_the_flag() {
        let batches = |name: &str| {
            let workload = Workload::parse(name).unwrap()[0];
            [None, Some(7)].map(|given| workload.batch(given))
        };
        assert_eq!(batches("cifar"), [64, 7]);
        assert_eq!(batches("cifar-gradients"), [64, 7]);
        assert_eq!(batches("resnet50"), [4, 7]);
        assert_eq!(batches("resnet50-gradients"), [4, 7]);
        assert_eq!(batches("conv-layer"), [16, 7]);
        assert_eq!(batches("conv-llama"), [16, 16]);
        assert_eq!(batches("gemm-8"), [1, 1]);
    }
}
