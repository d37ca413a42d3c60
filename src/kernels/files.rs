//! Table of the WGSL files, and the declarations in them: dependencies, bindings, entry points.

use super::structs::{Digest, Segment, Sums};
use crate::gpu::Access;
use crate::graph::StepScalars;
use crate::wgsl::{Field, WgslStruct};

/// A WGSL file below `shaders/`: a kernel, or text that kernels share.
#[derive(Debug)]
pub struct WgslFile {
    /// File name without extension; for a kernel, also its name in reports and its debug label.
    pub name: &'static str,
    /// Folder below `shaders/`.
    pub folder: &'static str,
    /// Contents of the file.
    pub text: &'static str,
}

macro_rules! files {
    ($($constant:ident: $folder:literal / $name:literal,)*) => {
        $(pub(super) static $constant: WgslFile = WgslFile {
            name: $name,
            folder: $folder,
            text: include_str!(concat!("../../shaders/", $folder, "/", $name, ".wgsl")),
        };)*

        /// All WGSL files.
        pub static FILES: &[&WgslFile] = &[$(&$constant),*];
    };
}

files! {
    BITS: "shared" / "bits",
    GRID: "shared" / "grid",
    LANE_SUMS: "shared" / "lane_sums",
    LARGEST: "shared" / "largest",
    MATH: "shared" / "math",
    NOT_POSITIVE: "shared" / "not_positive",
    ROW_TILES: "shared" / "row_tiles",
    SCALARS: "shared" / "scalars",
    WINDOW: "shared" / "window",
    A_COLUMNS_CURSOR: "gemm" / "a_columns_cursor",
    A_COLUMNS_MATRIX: "gemm" / "a_columns_matrix",
    A_COLUMNS_PATCHES_SCALAR: "gemm" / "a_columns_patches_scalar",
    A_COLUMNS_PATCHES_VEC4: "gemm" / "a_columns_patches_vec4",
    A_ROWS_MATRIX: "gemm" / "a_rows_matrix",
    A_ROWS_PATCHES_SCALAR: "gemm" / "a_rows_patches_scalar",
    A_ROWS_PATCHES_VEC4: "gemm" / "a_rows_patches_vec4",
    A_STEP_MATRIX: "gemm" / "a_step_matrix",
    A_STEP_PATCHES: "gemm" / "a_step_patches",
    B_ROWS: "gemm" / "b_rows",
    EPILOGUE: "gemm" / "epilogue",
    EXTRA_SCALAR: "gemm" / "extra_scalar",
    EXTRA_VEC4: "gemm" / "extra_vec4",
    FETCH_A_SCALAR: "gemm" / "fetch_a_scalar",
    FETCH_A_VEC4: "gemm" / "fetch_a_vec4",
    FETCH_B_SCALAR: "gemm" / "fetch_b_scalar",
    FETCH_B_VEC4: "gemm" / "fetch_b_vec4",
    GEMM: "gemm" / "gemm",
    GEMM_COOPERATIVE: "gemm" / "gemm_cooperative",
    HALF: "gemm" / "half",
    ROUND_TO_F16: "gemm" / "round_to_f16",
    GEMM_LOADER: "gemm" / "gemm_loader",
    GEMM_LOADER_COLUMNS: "gemm" / "gemm_loader_columns",
    GEMM_LOADER_ROWS: "gemm" / "gemm_loader_rows",
    GEMM_REGISTER: "gemm" / "gemm_register",
    GEMM_REGISTER_COLUMNS: "gemm" / "gemm_register_columns",
    GEMM_REGISTER_ROWS: "gemm" / "gemm_register_rows",
    GEMM_SUBGROUP: "gemm" / "gemm_subgroup",
    GEMM_SUBGROUP_COLUMNS: "gemm" / "gemm_subgroup_columns",
    GEMM_SUBGROUP_ROWS: "gemm" / "gemm_subgroup_rows",
    GEMM_TILED: "gemm" / "gemm_tiled",
    SPLIT_K_SUM: "gemm" / "split_k_sum",
    SPLIT_K_SUM_PARALLEL: "gemm" / "split_k_sum_parallel",
    SPLIT_K_GEMM_ONLY: "gemm" / "split_k_gemm_only",
    SPLIT_K_WITH_BIAS_GRAD: "gemm" / "split_k_with_bias_grad",
    STORE_C_SCALAR: "gemm" / "store_c_scalar",
    STORE_C_VEC4: "gemm" / "store_c_vec4",
    STORE_POOLED: "gemm" / "store_pooled",
    STORE_ROWS: "gemm" / "store_rows",
    SUM_STORED_AT_PIXELS: "gemm" / "sum_stored_at_pixels",
    SUM_STORED_CONTIGUOUSLY: "gemm" / "sum_stored_contiguously",
    SUM_EPILOGUE_BIAS: "gemm" / "sum_epilogue_bias",
    SUM_EPILOGUE_NONE: "gemm" / "sum_epilogue_none",
    SUM_EPILOGUE_RELU_GRAD: "gemm" / "sum_epilogue_relu_grad",
    BIAS_GRAD_STORED: "gemm" / "bias_grad_stored",
    BIAS_GRAD_UNUSED: "gemm" / "bias_grad_unused",
    COL2IM: "conv" / "col2im",
    DEPTHWISE_CONV2D: "conv" / "depthwise_conv2d",
    DEPTHWISE_CONV2D_GRAD_INPUT: "conv" / "depthwise_conv2d_grad_input",
    DEPTHWISE_CONV2D_GRAD_KERNEL: "conv" / "depthwise_conv2d_grad_kernel",
    GATHER: "conv" / "gather",
    GATHER_PATCHES: "conv" / "gather_patches",
    IM2COL: "conv" / "im2col",
    KERNEL_GRAD_ELEMENTS: "conv" / "kernel_grad_elements",
    SCATTER_SPLITS: "conv" / "scatter_splits",
    WINOGRAD_3X3: "winograd" / "winograd_3x3",
    WINOGRAD_5X5: "winograd" / "winograd_5x5",
    WINOGRAD_EPILOGUE: "winograd" / "winograd_epilogue",
    WINOGRAD_FUSED: "winograd" / "winograd_fused",
    WINOGRAD_FUSED_KERNEL: "winograd" / "winograd_fused_kernel",
    WINOGRAD_FUSED_POOLED: "winograd" / "winograd_fused_pooled",
    WINOGRAD_FUSED_ROWS: "winograd" / "winograd_fused_rows",
    WINOGRAD_INPUT: "winograd" / "winograd_input",
    WINOGRAD_KERNEL: "winograd" / "winograd_kernel",
    WINOGRAD_KERNEL_GRAD: "winograd" / "winograd_kernel_grad",
    WINOGRAD_OUTPUT: "winograd" / "winograd_output",
    WINOGRAD_OUTPUT_GRAD: "winograd" / "winograd_output_grad",
    WINOGRAD_PARAMS: "winograd" / "winograd_params",
    WINOGRAD_POINTS: "winograd" / "winograd_points",
    WINOGRAD_STORE_POOLED: "winograd" / "winograd_store_pooled",
    WINOGRAD_STORE_ROWS: "winograd" / "winograd_store_rows",
    RANGES: "shared" / "ranges",
    TAPS_ALL: "shared" / "taps_all",
    TAPS_PART: "shared" / "taps_part",
    AVERAGE: "pool" / "average",
    AVG_POOL2D: "pool" / "avg_pool2d",
    AVG_POOL2D_GRAD: "pool" / "avg_pool2d_grad",
    GLOBAL_AVG_POOL: "pool" / "global_avg_pool",
    GLOBAL_AVG_POOL_PARALLEL: "pool" / "global_avg_pool_parallel",
    GLOBAL_AVG_POOL_GRAD: "pool" / "global_avg_pool_grad",
    MAX_POOL2D: "pool" / "max_pool2d",
    MAX_POOL2D_GRAD: "pool" / "max_pool2d_grad",
    RESAMPLE2D: "pool" / "resample2d",
    ELEMENT_SET: "norm" / "element_set",
    NORMALIZE: "norm" / "normalize",
    NORMALIZE_GRAD: "norm" / "normalize_grad",
    SET_OF_INVOCATION: "norm" / "set_of_invocation",
    SET_OF_WORKGROUP: "norm" / "set_of_workgroup",
    BATCH_MOMENTS: "norm" / "batch_moments",
    BATCH_MOMENTS_PARALLEL: "norm" / "batch_moments_parallel",
    BATCH_NORM: "norm" / "batch_norm",
    BATCH_NORM_GRAD_INPUT: "norm" / "batch_norm_grad_input",
    BATCH_NORM_GRAD_INPUT_PARALLEL: "norm" / "batch_norm_grad_input_parallel",
    BATCH_NORM_GRAD_MERGE: "norm" / "batch_norm_grad_merge",
    BATCH_NORM_GRAD_MERGE_PARALLEL: "norm" / "batch_norm_grad_merge_parallel",
    BATCH_NORM_GRAD_SUMS: "norm" / "batch_norm_grad_sums",
    BATCH_NORM_GRAD_SUMS_PARALLEL: "norm" / "batch_norm_grad_sums_parallel",
    BATCH_NORM_PARALLEL: "norm" / "batch_norm_parallel",
    BATCH_STATISTICS: "norm" / "batch_statistics",
    BATCH_STATISTICS_PARALLEL: "norm" / "batch_statistics_parallel",
    MERGED_MOMENTS: "norm" / "merged_moments",
    MERGED_NORM_SUMS: "norm" / "merged_norm_sums",
    NORM_ADDEND: "norm" / "norm_addend",
    NORM_GRADIENT: "norm" / "norm_gradient",
    NORM_GRADIENT_RECOMPUTED: "norm" / "norm_gradient_recomputed",
    NORM_GRADIENT_RELU: "norm" / "norm_gradient_relu",
    NORM_GRADIENT_SUM_RELU: "norm" / "norm_gradient_sum_relu",
    NORM_NO_ADDEND: "norm" / "norm_no_addend",
    NORM_RECTIFIER: "norm" / "norm_rectifier",
    NORM_RELU: "norm" / "norm_relu",
    UPDATE_STATISTICS: "norm" / "update_statistics",
    ACTIVATION: "elementwise" / "activation",
    ACTIVATION_CLAMP: "elementwise" / "activation_clamp",
    ACTIVATION_GELU: "elementwise" / "activation_gelu",
    ACTIVATION_GELU_TANH: "elementwise" / "activation_gelu_tanh",
    ACTIVATION_GRAD: "elementwise" / "activation_grad",
    ACTIVATION_LEAKY_RELU: "elementwise" / "activation_leaky_relu",
    ACTIVATION_HARD_SIGMOID: "elementwise" / "activation_hard_sigmoid",
    ACTIVATION_HARD_SWISH: "elementwise" / "activation_hard_swish",
    ACTIVATION_INVERSE_POWER: "elementwise" / "activation_inverse_power",
    ACTIVATION_MATH: "elementwise" / "activation_math",
    ACTIVATION_RELU6: "elementwise" / "activation_relu6",
    ACTIVATION_SIGMOID: "elementwise" / "activation_sigmoid",
    ACTIVATION_SILU: "elementwise" / "activation_silu",
    ACTIVATION_TANH: "elementwise" / "activation_tanh",
    ADD: "elementwise" / "add",
    BIAS_ADD: "elementwise" / "bias_add",
    BIAS_GRAD: "elementwise" / "bias_grad",
    BIAS_GRAD_PARALLEL: "elementwise" / "bias_grad_parallel",
    CONCAT: "elementwise" / "concat",
    DROPOUT: "elementwise" / "dropout",
    ELEMENTWISE: "elementwise" / "elementwise",
    MEAN_GRAD: "elementwise" / "mean_grad",
    MUL: "elementwise" / "mul",
    MUL_CHANNELS: "elementwise" / "mul_channels",
    PAD_CHANNELS: "elementwise" / "pad_channels",
    RELU: "elementwise" / "relu",
    RELU_GRAD: "elementwise" / "relu_grad",
    SCALE: "elementwise" / "scale",
    SLICE_CHANNELS: "elementwise" / "slice_channels",
    THREEFRY: "elementwise" / "threefry",
    ZERO: "elementwise" / "zero",
    CLASS_WEIGHT: "loss" / "class_weight",
    CROSS_ENTROPY_GRAD_STORED: "loss" / "cross_entropy_grad_stored",
    CROSS_ENTROPY_GRAD_UNUSED: "loss" / "cross_entropy_grad_unused",
    LABEL_WEIGHT_SUM: "loss" / "label_weight_sum",
    BINARY_CROSS_ENTROPY: "loss" / "binary_cross_entropy",
    ELEMENT_LOSS: "loss" / "element_loss",
    ELEMENT_LOSS_GRAD: "loss" / "element_loss_grad",
    ELEMENT_LOSS_GRAD_STORED: "loss" / "element_loss_grad_stored",
    ELEMENT_LOSS_GRAD_UNUSED: "loss" / "element_loss_grad_unused",
    HUBER_ERROR: "loss" / "huber_error",
    METRICS: "loss" / "metrics",
    PREDICTED_CLASS: "loss" / "predicted_class",
    PREDICTION_OF_LOGITS: "loss" / "prediction_of_logits",
    PREDICTION_STORED: "loss" / "prediction_stored",
    ROW_OF_INVOCATION: "loss" / "row_of_invocation",
    ROW_OF_WORKGROUP: "loss" / "row_of_workgroup",
    SOFTMAX: "loss" / "softmax",
    SOFTMAX_CROSS_ENTROPY: "loss" / "softmax_cross_entropy",
    SOFTMAX_CROSS_ENTROPY_GRAD: "loss" / "softmax_cross_entropy_grad",
    SOFTMAX_GRAD: "loss" / "softmax_grad",
    SOFTMAX_ROW: "loss" / "softmax_row",
    LOG_SOFTMAX: "loss" / "log_softmax",
    LOG_SOFTMAX_GRAD: "loss" / "log_softmax_grad",
    SOFT_CROSS_ENTROPY: "loss" / "soft_cross_entropy",
    SOFT_CROSS_ENTROPY_GRAD: "loss" / "soft_cross_entropy_grad",
    SOFT_TARGETS_GRAD_STORED: "loss" / "soft_targets_grad_stored",
    SOFT_TARGETS_GRAD_UNUSED: "loss" / "soft_targets_grad_unused",
    SQUARED_ERROR: "loss" / "squared_error",
    ACCUMULATE: "update" / "accumulate",
    ADAGRAD_UPDATE: "update" / "adagrad_update",
    ADAM_UPDATE: "update" / "adam_update",
    AMSGRAD_UPDATE: "update" / "amsgrad_update",
    CLIP_SCALE: "update" / "clip_scale",
    COPY_ELEMENTS: "update" / "copy_elements",
    CORRECTIONS_OF_ELEMENTS: "update" / "corrections_of_elements",
    CORRECTIONS_OF_STEP: "update" / "corrections_of_step",
    DIGEST: "update" / "digest",
    GRADIENT_NORM: "update" / "gradient_norm",
    RMSPROP: "update" / "rmsprop",
    RMSPROP_CENTERED_MOMENTUM_UPDATE: "update" / "rmsprop_centered_momentum_update",
    RMSPROP_CENTERED_UPDATE: "update" / "rmsprop_centered_update",
    RMSPROP_MOMENTUM_UPDATE: "update" / "rmsprop_momentum_update",
    RMSPROP_UPDATE: "update" / "rmsprop_update",
    SGD_MOMENTUM_UPDATE: "update" / "sgd_momentum_update",
    SGD_UPDATE: "update" / "sgd_update",
    UPDATE: "update" / "update",
}

/// Structs that are declared in Rust and used by name in WGSL files.
static STRUCTS: &[(&str, &[Field])] = &[
    ("Digest", Digest::FIELDS),
    ("Segment", Segment::FIELDS),
    ("StepScalars", StepScalars::FIELDS),
    ("Sums", Sums::FIELDS),
];

impl WgslFile {
    /// Names listed after `// uses:`: other files, and structs declared in Rust.
    pub fn uses(&self) -> impl Iterator<Item = &'static str> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("// uses: "));
        lines.flat_map(|names| names.split(", "))
    }

    /// Whether the file is a kernel: it has an entry point or, like the optimizer updates, uses the entry
    /// point in `update.wgsl`.
    pub fn is_kernel(&self) -> bool {
        self.uses().any(|name| name == "update")
            || (self.text.contains("\nfn main(") && self.name != "update")
    }

    /// Whether the kernel clips gradients or updates parameters.
    pub fn is_update(&self) -> bool {
        self.uses().any(|name| name == "update") || matches!(self.name, "gradient_norm" | "clip_scale")
    }

    /// Bindings declared in this file: number and access.
    pub fn bindings(&self) -> impl Iterator<Item = (u32, Access)> {
        self.text.lines().filter_map(|line| {
            let (number, rest) = line.strip_prefix("@group(0) @binding(")?.split_once(") var<")?;
            let access = match rest.split_once('>')?.0 {
                "uniform" => Access::Uniform,
                "storage, read" => Access::Read,
                "storage, read_write" => Access::ReadWrite,
                _ => return None,
            };
            Some((number.parse().ok()?, access))
        })
    }
}

/// Files and structs that a launch depends on.
#[derive(Default)]
pub(super) struct Dependencies {
    pub files: Vec<&'static WgslFile>,
    pub structs: Vec<(&'static str, &'static [Field])>,
}

impl Dependencies {
    /// Adds a file and its dependencies, each once. An unknown name is skipped; the shader then fails to
    /// compile. A test checks that every name exists.
    pub fn add(&mut self, file: &'static WgslFile) {
        if self.files.iter().any(|other| other.name == file.name) {
            return;
        }
        self.files.push(file);
        for name in file.uses() {
            if let Some(other) = FILES.iter().find(|other| other.name == name) {
                self.add(other);
            } else if let Some(found) = STRUCTS.iter().find(|(other, _)| *other == name)
                && !self.structs.contains(found)
            {
                self.structs.push(*found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dependency_exists_and_names_are_unique() {
        for file in FILES {
            for name in file.uses() {
                let exists = FILES.iter().any(|f| f.name == name) || STRUCTS.iter().any(|(n, _)| *n == name);
                assert!(exists, "{} uses {name}, which does not exist", file.name);
            }
        }
        let names: std::collections::BTreeSet<_> = FILES.iter().map(|file| file.name).collect();
        assert_eq!(names.len(), FILES.len(), "file names must be unique");
    }
}
