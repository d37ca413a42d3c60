//! Adapter enumeration and selection, and the report of an adapter's features and limits.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Graphics API of an adapter. Parsed from `vulkan`, `metal`, `dx12`, `gl` or `webgpu`, in any case.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Vulkan.
    Vulkan,
    /// Apple's Metal.
    Metal,
    /// DirectX 12.
    Dx12,
    /// OpenGL or OpenGL ES.
    Gl,
    /// WebGPU in a browser.
    WebGpu,
    /// Any other API, such as wgpu's no-op backend, which executes nothing and serves to measure host time.
    Other,
}

impl Backend {
    fn from_wgpu(backend: wgpu::Backend) -> Self {
        match backend {
            wgpu::Backend::Vulkan => Backend::Vulkan,
            wgpu::Backend::Metal => Backend::Metal,
            wgpu::Backend::Dx12 => Backend::Dx12,
            wgpu::Backend::Gl => Backend::Gl,
            wgpu::Backend::BrowserWebGpu => Backend::WebGpu,
            _ => Backend::Other,
        }
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "vulkan" | "vk" => Ok(Backend::Vulkan),
            "metal" | "mtl" => Ok(Backend::Metal),
            "dx12" | "d3d12" => Ok(Backend::Dx12),
            "gl" | "gles" | "opengl" => Ok(Backend::Gl),
            "webgpu" => Ok(Backend::WebGpu),
            _ => Err(Error::argument("backend", "vulkan, metal, dx12, gl or webgpu", text)),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Vulkan => "vulkan",
            Backend::Metal => "metal",
            Backend::Dx12 => "dx12",
            Backend::Gl => "gl",
            Backend::WebGpu => "webgpu",
            Backend::Other => "other",
        })
    }
}

/// Compiler that turns the output of naga (wgpu's shader translator) into device code.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShaderCompiler {
    /// The driver's compiler, from SPIR-V (Vulkan).
    SpirV,
    /// Apple's compiler, from the Metal Shading Language.
    Metal,
    /// Microsoft's FXC, from HLSL: shader model 5.1, without subgroups.
    Fxc,
    /// Microsoft's DXC, from HLSL: shader model 6.
    Dxc,
    /// The driver's compiler, from GLSL.
    Glsl,
    /// The browser's compiler, from WGSL: Tint in Chrome, naga in Firefox.
    Browser,
    /// No compiler, or an unknown one.
    Other,
}

impl ShaderCompiler {
    /// wgpu does not report DX12's compiler: it is DXC if a feature of shader model 6 is available, which FXC
    /// lacks.
    fn from_features(backend: wgpu::Backend, features: wgpu::Features) -> Self {
        let shader_model_6 =
            wgpu::Features::SUBGROUP | wgpu::Features::SHADER_INT64 | wgpu::Features::SHADER_F16;
        match backend {
            wgpu::Backend::Vulkan => ShaderCompiler::SpirV,
            wgpu::Backend::Metal => ShaderCompiler::Metal,
            wgpu::Backend::Dx12 if features.intersects(shader_model_6) => ShaderCompiler::Dxc,
            wgpu::Backend::Dx12 => ShaderCompiler::Fxc,
            wgpu::Backend::Gl => ShaderCompiler::Glsl,
            wgpu::Backend::BrowserWebGpu => ShaderCompiler::Browser,
            _ => ShaderCompiler::Other,
        }
    }
}

impl fmt::Display for ShaderCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ShaderCompiler::SpirV => "the driver, from SPIR-V",
            ShaderCompiler::Metal => "the driver, from MSL",
            ShaderCompiler::Fxc => "FXC, from HLSL (shader model 5.1)",
            ShaderCompiler::Dxc => "DXC, from HLSL (shader model 6)",
            ShaderCompiler::Glsl => "the driver, from GLSL",
            ShaderCompiler::Browser => "the browser, from WGSL",
            ShaderCompiler::Other => "unknown",
        })
    }
}

/// Hardware class of an adapter, in ascending order of preference.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    /// Software adapter on the CPU, such as llvmpipe or SwiftShader.
    Cpu,
    /// Unknown.
    Other,
    /// Virtual GPU of a virtual machine.
    Virtual,
    /// GPU that shares the system's memory.
    Integrated,
    /// GPU with dedicated memory.
    Discrete,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Cpu => "software",
            DeviceKind::Other => "other",
            DeviceKind::Virtual => "virtual",
            DeviceKind::Integrated => "integrated",
            DeviceKind::Discrete => "discrete",
        })
    }
}

/// Identity, features and limits of an adapter and its device. Kernels are selected from this report alone.
///
/// Outside of this crate, [`AdapterReport::new`], [`devices`] and [`Gpu::report`](crate::Gpu::report) return
/// reports; their fields can be changed.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterReport {
    /// Name of the adapter.
    pub name: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Graphics API.
    pub backend: Backend,
    /// Compiler of the shaders.
    pub shader_compiler: ShaderCompiler,
    /// Hardware class.
    pub kind: DeviceKind,
    /// Whether the adapter is a software adapter: [`DeviceKind::Cpu`].
    pub software: bool,
    /// Smallest and largest subgroup size; `None` without subgroup operations in shaders.
    pub subgroup: Option<[u32; 2]>,
    /// Rows and columns of the largest square cooperative matrices with f16 operands and f32 accumulators;
    /// `None` unless the device was opened with [`GpuOptions::cooperative_matrix`]. In the reports of
    /// [`devices`], the size that the device can be opened with.
    pub cooperative_matrix: Option<u32>,
    /// Whether compute passes can write timestamps.
    pub timestamps: bool,
    /// Maximum size of a buffer, in bytes.
    pub max_buffer: u64,
    /// Maximum size of a storage buffer binding, in bytes.
    pub max_binding: u64,
    /// Maximum number of storage buffers per kernel.
    pub max_storage_buffers: u32,
    /// Maximum workgroup memory of a kernel, in bytes.
    pub max_workgroup_memory: u32,
    /// Maximum number of invocations per workgroup.
    pub max_invocations: u32,
}

impl AdapterReport {
    /// Report with WebGPU's default limits and no optional features, to estimate a plan without a device
    /// ([`Plan::estimate`](crate::low_level::Plan::estimate)).
    pub fn new(name: impl Into<String>, backend: Backend, kind: DeviceKind) -> Self {
        let limits = wgpu::Limits::default();
        AdapterReport {
            name: name.into(),
            driver: String::new(),
            backend,
            shader_compiler: match backend {
                Backend::Vulkan => ShaderCompiler::SpirV,
                Backend::Metal => ShaderCompiler::Metal,
                Backend::Dx12 => ShaderCompiler::Fxc,
                Backend::Gl => ShaderCompiler::Glsl,
                Backend::WebGpu => ShaderCompiler::Browser,
                Backend::Other => ShaderCompiler::Other,
            },
            kind,
            software: kind == DeviceKind::Cpu,
            subgroup: None,
            cooperative_matrix: None,
            timestamps: false,
            max_buffer: limits.max_buffer_size,
            max_binding: limits.max_storage_buffer_binding_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
        }
    }

    pub(super) fn of_device(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Self {
        let report =
            Self::from_wgpu(&adapter.get_info(), adapter.features(), device.features(), &device.limits());
        AdapterReport { cooperative_matrix: cooperative_matrix(adapter, device.features()), ..report }
    }

    /// Creates a report from the features and limits that the device was opened with, or that the adapter
    /// supports.
    fn from_wgpu(
        info: &wgpu::AdapterInfo,
        adapter_features: wgpu::Features,
        features: wgpu::Features,
        limits: &wgpu::Limits,
    ) -> Self {
        let kind = match info.device_type {
            wgpu::DeviceType::Cpu => DeviceKind::Cpu,
            wgpu::DeviceType::Other => DeviceKind::Other,
            wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
            wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
            wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
        };
        let subgroup = features
            .contains(wgpu::Features::SUBGROUP)
            .then_some([info.subgroup_min_size, info.subgroup_max_size]);
        AdapterReport {
            name: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: Backend::from_wgpu(info.backend),
            shader_compiler: ShaderCompiler::from_features(info.backend, adapter_features),
            kind,
            software: kind == DeviceKind::Cpu,
            subgroup,
            cooperative_matrix: None,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            max_buffer: limits.max_buffer_size,
            max_binding: limits.max_storage_buffer_binding_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
        }
    }
}

/// Selection of an adapter, and the settings of its device.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuOptions {
    pub(super) adapter: Option<String>,
    pub(super) backend: Option<Backend>,
    pub(super) timeout: Duration,
    pub(super) compile_ahead: bool,
    pub(super) cooperative_matrix: bool,
    memory_budget: Option<u64>,
}

impl Default for GpuOptions {
    /// The adapter of the highest hardware class, a timeout of 120 s, background compilation on, cooperative
    /// matrices off.
    fn default() -> Self {
        GpuOptions {
            adapter: None,
            backend: None,
            timeout: Duration::from_secs(120),
            compile_ahead: true,
            cooperative_matrix: false,
            memory_budget: None,
        }
    }
}

impl GpuOptions {
    /// Selects an adapter by its index in [`devices`], or by a part of its name in any case.
    pub fn adapter(mut self, name_or_index: impl Into<String>) -> Self {
        self.adapter = Some(name_or_index.into());
        self
    }

    /// Restricts the selection to adapters of one graphics API.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Sets how long to wait for the device before [`Error::Timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether to compile shaders in the background, on a second thread and device; on by default.
    ///
    /// Has an effect on Mesa's software Vulkan (llvmpipe) only, where the first step of a large network takes
    /// seconds. Results do not change. The first device loads the compiled shaders from the driver's on-disk
    /// cache, so there is no speedup without that cache. Dropping the last clone of a [`crate::Gpu`] joins
    /// the thread, so turn it off for a `Gpu` in a `static`, which is never dropped.
    pub fn compile_ahead(mut self, on: bool) -> Self {
        self.compile_ahead = on;
        self
    }

    /// Whether to enable cooperative matrices (tensor cores) for [`crate::kernels::GemmFamily::Cooperative`],
    /// if the adapter has them; off by default, because wgpu marks the feature as experimental.
    pub fn cooperative_matrix(mut self, on: bool) -> Self {
        self.cooperative_matrix = on;
        self
    }

    /// Limits the total bytes of all buffers. Default: 4 GiB on a software adapter, whose driver never
    /// reports that memory is exhausted; unlimited on others.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    pub(super) fn memory_budget_for(&self, report: &AdapterReport) -> u64 {
        self.memory_budget.unwrap_or(if report.software { 4 << 30 } else { u64::MAX })
    }
}

/// Lists all adapters of this machine, in the order of their indices.
pub fn devices() -> Vec<AdapterReport> {
    let adapters = super::block_on(enumerate_adapters());
    let report = |a: &wgpu::Adapter| AdapterReport {
        cooperative_matrix: cooperative_matrix(a, a.features()),
        ..AdapterReport::from_wgpu(&a.get_info(), a.features(), a.features(), &a.limits())
    };
    adapters.iter().map(report).collect()
}

/// Features that cooperative matrices with f16 operands need.
const COOPERATIVE_MATRIX: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// Side of the largest square cooperative matrix with f16 operands and f32 accumulators; `None` unless
/// `features` contains [`COOPERATIVE_MATRIX`].
fn cooperative_matrix(adapter: &wgpu::Adapter, features: wgpu::Features) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let properties = adapter.cooperative_matrix_properties();
    let square = properties
        .iter()
        .filter(|p| p.m_size == p.n_size && p.n_size == p.k_size && (p.ab_type, p.cr_type) == (F16, F32));
    square.map(|p| p.m_size).max().filter(|_| features.contains(COOPERATIVE_MATRIX))
}

#[cfg(not(target_family = "wasm"))]
async fn enumerate_adapters() -> Vec<wgpu::Adapter> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12 | wgpu::Backends::GL;
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = wgpu::InstanceFlags::empty();
    // Reads WGPU_DX12_COMPILER and wgpu's other environment variables.
    descriptor.backend_options = wgpu::BackendOptions::from_env_or_default();
    let mut adapters = wgpu::Instance::new(descriptor).enumerate_adapters(backends).await;
    let compute = wgpu::DownlevelFlags::COMPUTE_SHADERS;
    adapters.retain(|a| a.get_downlevel_capabilities().flags.contains(compute));
    adapters
}

/// A browser offers one adapter: that of a GPU, or else the browser's own software adapter.
#[cfg(target_family = "wasm")]
async fn enumerate_adapters() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::BROWSER_WEBGPU;
    let instance = wgpu::Instance::new(descriptor);
    for force_fallback_adapter in [false, true] {
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let options =
            wgpu::RequestAdapterOptions { power_preference, force_fallback_adapter, ..Default::default() };
        if let Ok(adapter) = instance.request_adapter(&options).await {
            return vec![adapter];
        }
    }
    Vec::new()
}

/// Returns a sort key for adapters: the hardware class first, then `true` for every API except OpenGL.
fn rank(info: &wgpu::AdapterInfo) -> (DeviceKind, bool) {
    let none = wgpu::Features::empty();
    let report = AdapterReport::from_wgpu(info, none, none, &wgpu::Limits::default());
    (report.kind, report.backend != Backend::Gl)
}

/// Selects the adapter that `options` describe.
///
/// # Errors
/// [`Error::NoAdapter`].
pub(super) async fn request_adapter(options: &GpuOptions) -> Result<wgpu::Adapter> {
    let adapters = enumerate_adapters().await;
    let infos: Vec<_> = adapters.iter().map(wgpu::Adapter::get_info).collect();
    let Some(index) = select_adapter(&infos, options.adapter.as_deref(), options.backend) else {
        let mut wanted = options.adapter.as_ref().map_or("any name".to_owned(), |a| format!("{a:?}"));
        if let Some(backend) = options.backend {
            wanted += &format!(" on {backend}");
        }
        let found = infos
            .iter()
            .enumerate()
            .map(|(i, info)| format!("{i}: {} ({})", info.name, Backend::from_wgpu(info.backend)))
            .collect::<Vec<_>>();
        let hint = if found.is_empty() { driver_hint() } else { "`frazil devices` lists all adapters" };
        return Err(Error::NoAdapter { wanted, found, hint: hint.to_owned() });
    };
    Ok(adapters[index].clone())
}

/// Returns the index of the matching adapter with the highest [`rank`], the first one if several are equal.
fn select_adapter(
    infos: &[wgpu::AdapterInfo],
    name_or_index: Option<&str>,
    backend: Option<Backend>,
) -> Option<usize> {
    // `name_or_index` is an index if it is a number in range. Any other number may still be part of a name,
    // such as `4090`.
    let index = name_or_index.and_then(|n| n.parse::<usize>().ok()).filter(|&i| i < infos.len());
    let name = name_or_index.map(str::to_lowercase);
    infos
        .iter()
        .enumerate()
        .filter(|(i, info)| {
            let backend_matches = backend.is_none_or(|b| b == Backend::from_wgpu(info.backend));
            let name_matches = match (index, &name) {
                (Some(index), _) => *i == index,
                (None, Some(name)) => info.name.to_lowercase().contains(name),
                (None, None) => true,
            };
            backend_matches && name_matches
        })
        .max_by(|(i, a), (j, b)| rank(a).cmp(&rank(b)).then(j.cmp(i)))
        .map(|(i, _)| i)
}

fn driver_hint() -> &'static str {
    if cfg!(target_family = "wasm") {
        "This browser has no WebGPU for this GPU: update the browser and the graphics driver, or try Chrome or Edge; the page \
         must come from https or localhost"
    } else if cfg!(target_os = "linux") {
        "Install a Vulkan driver; without a GPU, install Mesa's software driver: apt-get install libvulkan1 mesa-vulkan-drivers"
    } else if cfg!(target_os = "macos") {
        "Metal is available on every Mac except virtual machines without a GPU"
    } else {
        "Update the graphics driver"
    }
}

/// Returns the descriptor of a device with the adapter's limits and those optional features that kernels or profiling
/// use.
pub(super) fn wanted(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
    let optional = wgpu::Features::SUBGROUP
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES;
    let mut limits = adapter.limits();
    // The no-op backend reports 2^31 bind groups, which overflows wgpu's own tables.
    limits.max_bind_groups = limits.max_bind_groups.min(8);
    wgpu::DeviceDescriptor {
        label: Some("frazil"),
        required_features: adapter.features() & optional,
        required_limits: limits,
        experimental_features: wgpu::ExperimentalFeatures::disabled(),
        memory_hints: wgpu::MemoryHints::Performance,
        trace: wgpu::Trace::Off,
    }
}

/// Opens a [`wanted`] device, with cooperative matrices if `options` ask for them.
///
/// # Errors
/// [`Error::AdapterRejected`].
pub(super) async fn request_device(
    adapter: &wgpu::Adapter,
    options: &GpuOptions,
) -> Result<(wgpu::Device, wgpu::Queue)> {
    let descriptor = wanted(adapter);
    if options.cooperative_matrix && cooperative_matrix(adapter, adapter.features()).is_some() {
        let cooperative = wgpu::DeviceDescriptor {
            required_features: descriptor.required_features | COOPERATIVE_MATRIX,
            // SAFETY: wgpu requires the caller to accept that experimental features may have bugs. The user
            // accepts this by setting `GpuOptions::cooperative_matrix`. The shaders are validated like all
            // others.
            experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
            ..descriptor.clone()
        };
        match adapter.request_device(&cooperative).await {
            Ok(opened) => return Ok(opened),
            // A driver may refuse features that its adapter reports as supported.
            Err(error) => {
                log::warn!("{} is opened without cooperative matrices: {error}", adapter.get_info().name);
            }
        }
    }
    adapter.request_device(&descriptor).await.map_err(|error| Error::AdapterRejected {
        adapter: adapter.get_info().name,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, kind: wgpu::DeviceType, backend: wgpu::Backend) -> wgpu::AdapterInfo {
        let mut info = wgpu::AdapterInfo::new(kind, backend);
        info.name = name.to_owned();
        info
    }

    #[test]
    fn dx12_shader_compiler_is_dxc_if_shader_model_6_features_are_available() {
        let dx12 = |features| ShaderCompiler::from_features(wgpu::Backend::Dx12, features);
        assert_eq!(dx12(wgpu::Features::TIMESTAMP_QUERY), ShaderCompiler::Fxc);
        assert_eq!(dx12(wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP), ShaderCompiler::Dxc);
        let vulkan = ShaderCompiler::from_features(wgpu::Backend::Vulkan, wgpu::Features::SUBGROUP);
        assert_eq!(vulkan, ShaderCompiler::SpirV);
    }

    #[test]
    fn select_adapter_honours_name_index_and_backend_then_prefers_the_highest_rank() {
        let all = [
            info("llvmpipe", wgpu::DeviceType::Cpu, wgpu::Backend::Gl),
            info("llvmpipe", wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan),
            info("Radeon 780M", wgpu::DeviceType::IntegratedGpu, wgpu::Backend::Vulkan),
            info("GeForce A", wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan),
            info("GeForce B", wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan),
        ];
        assert_eq!(select_adapter(&all, None, None), Some(3));
        assert_eq!(select_adapter(&all[..2], None, None), Some(1));
        assert_eq!(select_adapter(&all, Some("radeon"), None), Some(2));
        assert_eq!(select_adapter(&all, Some("0"), None), Some(0));
        assert_eq!(select_adapter(&all, None, Some(Backend::Gl)), Some(0));
        assert_eq!(select_adapter(&all, Some("9"), None), None);
        assert_eq!(select_adapter(&all, Some("780"), None), Some(2));
        assert_eq!(select_adapter(&all, Some("llvmpipe"), Some(Backend::Metal)), None);
    }
}
