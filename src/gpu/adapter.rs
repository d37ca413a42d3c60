//! Which adapters there are, which one to take, and what it allows.

use crate::error::{Error, Result};
use std::fmt;
use std::time::Duration;

/// The driver interface of an adapter.
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
    /// Any other (wgpu's own no-op backend, for measuring host cost).
    Other,
}

impl Backend {
    /// Reads `vulkan`, `metal`, `dx12` or `gl`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "vulkan" | "vk" => Ok(Backend::Vulkan),
            "metal" | "mtl" => Ok(Backend::Metal),
            "dx12" | "d3d12" => Ok(Backend::Dx12),
            "gl" | "gles" | "opengl" => Ok(Backend::Gl),
            _ => Err(Error::argument("backend", "vulkan, metal, dx12 or gl", text)),
        }
    }

    fn of(backend: wgpu::Backend) -> Self {
        match backend {
            wgpu::Backend::Vulkan => Backend::Vulkan,
            wgpu::Backend::Metal => Backend::Metal,
            wgpu::Backend::Dx12 => Backend::Dx12,
            wgpu::Backend::Gl => Backend::Gl,
            _ => Backend::Other,
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
            Backend::Other => "other",
        })
    }
}

/// What turns a shader into what the device runs, after naga has translated it from WGSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShaderCompiler {
    /// The driver's own, from SPIR-V (Vulkan).
    SpirV,
    /// Apple's, from the Metal Shading Language.
    Metal,
    /// Microsoft's FXC, from HLSL: shader model 5.1, without subgroups.
    Fxc,
    /// Microsoft's DXC, from HLSL: shader model 6.
    Dxc,
    /// The driver's own, from GLSL.
    Glsl,
    /// None, or not known.
    Other,
}

impl ShaderCompiler {
    /// wgpu does not name DX12's compiler, but only what DXC compiles can use these features.
    fn of(backend: wgpu::Backend, features: wgpu::Features) -> Self {
        let shader_model_6 =
            wgpu::Features::SUBGROUP | wgpu::Features::SHADER_INT64 | wgpu::Features::SHADER_F16;
        match backend {
            wgpu::Backend::Vulkan => ShaderCompiler::SpirV,
            wgpu::Backend::Metal => ShaderCompiler::Metal,
            wgpu::Backend::Dx12 if features.intersects(shader_model_6) => ShaderCompiler::Dxc,
            wgpu::Backend::Dx12 => ShaderCompiler::Fxc,
            wgpu::Backend::Gl => ShaderCompiler::Glsl,
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
            ShaderCompiler::Other => "unknown",
        })
    }
}

/// What kind of processor an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    /// A processor that emulates a GPU.
    Cpu,
    /// Not known.
    Other,
    /// A share of a GPU in a virtual machine.
    Virtual,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU with memory of its own.
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

/// What an adapter is and what its device allows. Kernels are chosen from this alone.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterReport {
    /// The adapter's name.
    pub name: String,
    /// The driver's name and version.
    pub driver: String,
    /// The interface.
    pub backend: Backend,
    /// What compiles shaders.
    pub shader_compiler: ShaderCompiler,
    /// The kind of processor.
    pub kind: DeviceKind,
    /// Whether it is emulated by the processor.
    pub software: bool,
    /// Smallest and largest subgroup, where shaders may use subgroup operations.
    pub subgroup: Option<[u32; 2]>,
    /// Rows and columns of the matrices that matrix units multiply, of f16 and with sums in f32, where the device was opened
    /// with them ([`GpuOptions::cooperative_matrix`]); of [`devices`], where it could be.
    pub cooperative_matrix: Option<u32>,
    /// Whether passes can be timed on the device.
    pub timestamps: bool,
    /// Bytes of the largest buffer.
    pub max_buffer: u64,
    /// Bytes of the largest part of a buffer that a kernel may see.
    pub max_binding: u64,
    /// Storage buffers in one kernel.
    pub max_storage_buffers: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_memory: u32,
    /// Invocations in one workgroup.
    pub max_invocations: u32,
}

impl AdapterReport {
    pub(super) fn new(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Self {
        let report =
            Self::from_parts(&adapter.get_info(), adapter.features(), device.features(), &device.limits());
        AdapterReport { cooperative_matrix: cooperative_matrix(adapter, device.features()), ..report }
    }

    /// `features` and `limits`: what the device was opened with, or what the adapter offers.
    fn from_parts(
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
            backend: Backend::of(info.backend),
            shader_compiler: ShaderCompiler::of(info.backend, adapter_features),
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

/// Which adapter to open, and how.
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
    /// The best adapter there is; waits of up to 120 s.
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
    /// An adapter by its index in [`devices`], or by a part of its name in any case.
    pub fn adapter(mut self, name_or_index: impl Into<String>) -> Self {
        self.adapter = Some(name_or_index.into());
        self
    }

    /// Adapters of one interface alone.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// How long to wait for the device before [`Error::Timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether a second core compiles shaders while the first ones run, on Mesa's software Vulkan, where a large network's
    /// first step takes seconds: on unless set. A thread does it on a device of its own; results are the same. What it does
    /// is found in the driver's cache on disk: without one it is in vain. The last clone of a [`crate::Gpu`] waits for it
    /// when it is dropped, so switch it off for one in a `static`, which is not.
    pub fn compile_ahead(mut self, on: bool) -> Self {
        self.compile_ahead = on;
        self
    }

    /// Whether to open the device with its matrix units, if it has any, for [`crate::kernels::GemmFamily::Cooperative`]; off
    /// unless set, for wgpu calls their use experimental.
    pub fn cooperative_matrix(mut self, on: bool) -> Self {
        self.cooperative_matrix = on;
        self
    }

    /// Bytes that all buffers together may take. Unset: 4 GiB on a software adapter (whose driver never says that
    /// memory is out), no limit of our own on others.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    pub(super) fn memory_budget_for(&self, report: &AdapterReport) -> u64 {
        self.memory_budget.unwrap_or(if report.software { 4 << 30 } else { u64::MAX })
    }
}

/// All adapters of this machine, in the order of their indices.
pub fn devices() -> Vec<AdapterReport> {
    let adapters = pollster::block_on(adapters());
    let report = |a: &wgpu::Adapter| AdapterReport {
        cooperative_matrix: cooperative_matrix(a, a.features()),
        ..AdapterReport::from_parts(&a.get_info(), a.features(), a.features(), &a.limits())
    };
    adapters.iter().map(report).collect()
}

const MATRIX_UNITS: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// The largest square matrices of f16, with sums in f32, if all features that they need are among these.
fn cooperative_matrix(adapter: &wgpu::Adapter, features: wgpu::Features) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let properties = adapter.cooperative_matrix_properties();
    let fit = properties
        .iter()
        .filter(|p| p.m_size == p.n_size && p.n_size == p.k_size && (p.ab_type, p.cr_type) == (F16, F32));
    fit.map(|p| p.m_size).max().filter(|_| features.contains(MATRIX_UNITS))
}

async fn adapters() -> Vec<wgpu::Adapter> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12 | wgpu::Backends::GL;
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = wgpu::InstanceFlags::empty();
    // WGPU_DX12_COMPILER, and what else wgpu reads.
    descriptor.backend_options = wgpu::BackendOptions::from_env_or_default();
    let mut all = wgpu::Instance::new(descriptor).enumerate_adapters(backends).await;
    // Without compute shaders an adapter is of no use here.
    all.retain(|a| a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS));
    all
}

fn rank(info: &wgpu::AdapterInfo) -> (DeviceKind, bool) {
    let none = wgpu::Features::empty();
    let report = AdapterReport::from_parts(info, none, none, &wgpu::Limits::default());
    (report.kind, report.backend != Backend::Gl)
}

pub(super) async fn choose(options: &GpuOptions) -> Result<wgpu::Adapter> {
    let all = adapters().await;
    let infos: Vec<_> = all.iter().map(wgpu::Adapter::get_info).collect();
    let Some(index) = pick(&infos, options.adapter.as_deref(), options.backend) else {
        let mut wanted = options.adapter.as_ref().map_or("any name".to_owned(), |a| format!("{a:?}"));
        if let Some(backend) = options.backend {
            wanted += &format!(" on {backend}");
        }
        let found = infos
            .iter()
            .enumerate()
            .map(|(i, info)| format!("{i}: {} ({})", info.name, Backend::of(info.backend)))
            .collect::<Vec<_>>();
        let hint = if found.is_empty() { driver_hint() } else { "`frazil devices` lists what there is" };
        return Err(Error::NoAdapter { wanted, found, hint: hint.to_owned() });
    };
    // `pick` returns an index into `infos`, which has the length of `all`.
    Ok(all[index].clone())
}

/// The adapter asked for; among several, the highest rank, and then the first.
fn pick(infos: &[wgpu::AdapterInfo], name_or_index: Option<&str>, backend: Option<Backend>) -> Option<usize> {
    // A number out of range may still be a part of a name.
    let index = name_or_index.and_then(|n| n.parse::<usize>().ok()).filter(|&i| i < infos.len());
    let name = name_or_index.map(str::to_lowercase);
    infos
        .iter()
        .enumerate()
        .filter(|(i, info)| {
            let on_backend = backend.is_none_or(|b| b == Backend::of(info.backend));
            let named = match (index, &name) {
                (Some(index), _) => *i == index,
                (None, Some(name)) => info.name.to_lowercase().contains(name),
                (None, None) => true,
            };
            on_backend && named
        })
        .max_by(|(i, a), (j, b)| rank(a).cmp(&rank(b)).then(j.cmp(i)))
        .map(|(i, _)| i)
}

fn driver_hint() -> &'static str {
    if cfg!(target_os = "linux") {
        "Install a Vulkan driver; without a GPU, Mesa's software one does: apt-get install libvulkan1 mesa-vulkan-drivers"
    } else if cfg!(target_os = "macos") {
        "Metal should always be there; is this a virtual machine without a GPU?"
    } else {
        "Update the graphics driver"
    }
}

pub(super) async fn open(
    adapter: &wgpu::Adapter,
    options: &GpuOptions,
) -> Result<(wgpu::Device, wgpu::Queue)> {
    let useful = wgpu::Features::SUBGROUP
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES;
    let mut limits = adapter.limits();
    // An adapter without real limits (the no-op backend) offers 2^31, on which wgpu's own tables overflow.
    limits.max_bind_groups = limits.max_bind_groups.min(8);
    let plain = wgpu::DeviceDescriptor {
        label: Some("frazil"),
        required_features: adapter.features() & useful,
        required_limits: limits,
        experimental_features: wgpu::ExperimentalFeatures::disabled(),
        memory_hints: wgpu::MemoryHints::Performance,
        trace: wgpu::Trace::Off,
    };
    if options.cooperative_matrix && cooperative_matrix(adapter, adapter.features()).is_some() {
        let with_units = wgpu::DeviceDescriptor {
            required_features: plain.required_features | MATRIX_UNITS,
            // SAFETY: wgpu asks whoever enables them to accept that experimental features may have bugs. The caller did, by
            // `GpuOptions::cooperative_matrix`; shaders are checked like all others.
            experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
            ..plain.clone()
        };
        match adapter.request_device(&with_units).await {
            Ok(opened) => return Ok(opened),
            // A driver may offer what it then refuses.
            Err(error) => log::warn!("{} is opened without matrix units: {error}", adapter.get_info().name),
        }
    }
    adapter.request_device(&plain).await.map_err(|error| Error::AdapterRejected {
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
    fn dx12_has_shader_model_6_from_dxc_alone() {
        let of = |features| ShaderCompiler::of(wgpu::Backend::Dx12, features);
        assert_eq!(of(wgpu::Features::TIMESTAMP_QUERY), ShaderCompiler::Fxc);
        assert_eq!(of(wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP), ShaderCompiler::Dxc);
        let vulkan = ShaderCompiler::of(wgpu::Backend::Vulkan, wgpu::Features::SUBGROUP);
        assert_eq!(vulkan, ShaderCompiler::SpirV);
    }

    #[test]
    fn the_best_adapter_is_taken_unless_one_is_named() {
        let all = [
            info("llvmpipe", wgpu::DeviceType::Cpu, wgpu::Backend::Gl),
            info("llvmpipe", wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan),
            info("Radeon 780M", wgpu::DeviceType::IntegratedGpu, wgpu::Backend::Vulkan),
            info("GeForce A", wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan),
            info("GeForce B", wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan),
        ];
        assert_eq!(pick(&all, None, None), Some(3));
        assert_eq!(pick(&all[..2], None, None), Some(1));
        assert_eq!(pick(&all, Some("radeon"), None), Some(2));
        assert_eq!(pick(&all, Some("0"), None), Some(0));
        assert_eq!(pick(&all, None, Some(Backend::Gl)), Some(0));
        assert_eq!(pick(&all, Some("9"), None), None);
        assert_eq!(pick(&all, Some("780"), None), Some(2));
        assert_eq!(pick(&all, Some("llvmpipe"), Some(Backend::Metal)), None);
    }
}
