//! A Vulkan device that compiles shaders as wgpu does, and reports what its driver generates.

use ash::vk;
use frazil::gpu::{Access, Shader};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use std::error::Error;
use std::ffi::CStr;

/// The first device of the Vulkan loader, opened with the features that wgpu would enable.
pub struct Device {
    raw: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    /// Whether the driver checks accesses to buffers, so that wgpu leaves the checks out.
    checks_buffers: bool,
    spirv: (u8, u8),
    // Keeps the library loaded and the instance alive.
    _instance: ash::Instance,
    _entry: ash::Entry,
}

/// What the driver reports about a compiled pipeline.
pub struct Report {
    /// Name and value of each statistic.
    pub statistics: Vec<(String, u64)>,
    /// Name and text of each representation of the code, such as the assembly.
    pub texts: Vec<(String, String)>,
}

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    /// If there is no Vulkan, no device, or the device cannot describe its code.
    pub fn open() -> Result<Self, Box<dyn Error>> {
        // SAFETY: each call has valid handles and structures, which live until it returns; the handles stay
        // valid because the entry and the instance are kept beside the device.
        unsafe {
            let entry = ash::Entry::load()?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let create = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&create, None)?;
            let physical = *instance.enumerate_physical_devices()?.first().ok_or("no Vulkan device")?;
            let properties = instance.get_physical_device_properties(physical);
            let extensions = instance.enumerate_device_extension_properties(physical)?;
            let has = |name: &CStr| extensions.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
            if properties.api_version < vk::API_VERSION_1_3
                || !has(ash::khr::pipeline_executable_properties::NAME)
            {
                return Err("the device lacks Vulkan 1.3 or VK_KHR_pipeline_executable_properties".into());
            }
            let [checks_buffers, cooperative] =
                [ash::ext::robustness2::NAME, ash::khr::cooperative_matrix::NAME].map(has);
            let mut names = vec![ash::khr::pipeline_executable_properties::NAME.as_ptr()];
            names.extend(checks_buffers.then_some(ash::ext::robustness2::NAME.as_ptr()));
            names.extend(cooperative.then_some(ash::khr::cooperative_matrix::NAME.as_ptr()));
            let core = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
            let mut executables = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                .pipeline_executable_info(true);
            let mut robustness =
                vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
            let mut vulkan12 = vk::PhysicalDeviceVulkan12Features::default();
            let mut vulkan13 = vk::PhysicalDeviceVulkan13Features::default().subgroup_size_control(true);
            let mut matrices =
                vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
            let queues =
                [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let mut create = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&names)
                .enabled_features(&core)
                .push_next(&mut executables)
                .push_next(&mut vulkan13);
            if checks_buffers {
                create = create.push_next(&mut robustness);
            }
            if cooperative {
                vulkan12 = vulkan12.vulkan_memory_model(true).shader_float16(true);
                create = create.push_next(&mut matrices);
            }
            let create = create.push_next(&mut vulkan12);
            let raw = instance.create_device(physical, &create, None)?;
            let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &raw);
            Ok(Device { raw, executables, checks_buffers, spirv: (1, 6), _instance: instance, _entry: entry })
        }
    }

    /// Compiles a shader.
    ///
    /// # Errors
    /// If naga or the driver rejects it.
    pub fn compile(&self, shader: &Shader) -> Result<Report, Box<dyn Error>> {
        let words = self.spirv(&shader.wgsl)?;
        let bindings: Vec<_> = shader
            .bindings
            .iter()
            .map(|&(binding, access)| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
                    .descriptor_type(match access {
                        Access::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                        Access::Read | Access::ReadWrite => vk::DescriptorType::STORAGE_BUFFER,
                    })
            })
            .collect();
        // SAFETY: as in `open`; naga has validated the SPIR-V's source. Objects live until the process ends.
        unsafe {
            let module =
                self.raw.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&words), None)?;
            let set = self.raw.create_descriptor_set_layout(
                &vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings),
                None,
            )?;
            let sets = [set];
            let layout = self
                .raw
                .create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&sets), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let create = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(
                vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                    | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
            );
            let pipelines = self
                .raw
                .create_compute_pipelines(vk::PipelineCache::null(), &[create], None)
                .map_err(|(_, error)| error)?;
            let pipeline = *pipelines.first().ok_or("no pipeline")?;
            let report = self.report(pipeline)?;
            self.raw.destroy_pipeline(pipeline, None);
            self.raw.destroy_pipeline_layout(layout, None);
            self.raw.destroy_descriptor_set_layout(set, None);
            self.raw.destroy_shader_module(module, None);
            Ok(report)
        }
    }

    fn report(&self, pipeline: vk::Pipeline) -> Result<Report, Box<dyn Error>> {
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        let name = |name: &[std::ffi::c_char]| {
            let bytes = name.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect::<Vec<_>>();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        // SAFETY: the pipeline is valid; the second call gets as many structures as the first one asks for,
        // and the third one as many bytes.
        unsafe {
            let mut statistics = Vec::new();
            for statistic in self.executables.get_pipeline_executable_statistics(&executable)? {
                let value = match statistic.format {
                    vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => statistic.value.f64.round() as u64,
                    vk::PipelineExecutableStatisticFormatKHR::BOOL32 => statistic.value.b32.into(),
                    _ => statistic.value.u64,
                };
                statistics.push((name(&statistic.name), value));
            }
            let read = self.executables.fp().get_pipeline_executable_internal_representations_khr;
            let mut count = 0;
            read(self.raw.handle(), &executable, &mut count, std::ptr::null_mut()).result()?;
            let mut list = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            read(self.raw.handle(), &executable, &mut count, list.as_mut_ptr()).result()?;
            let mut texts: Vec<Vec<u8>> = list.iter().map(|entry| vec![0; entry.data_size]).collect();
            for (entry, text) in list.iter_mut().zip(&mut texts) {
                entry.p_data = text.as_mut_ptr().cast();
            }
            read(self.raw.handle(), &executable, &mut count, list.as_mut_ptr()).result()?;
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
            let texts = list.iter().zip(&texts).map(|(entry, bytes)| (name(&entry.name), text(bytes)));
            Ok(Report { statistics, texts: texts.collect() })
        }
    }

    /// Translates WGSL with the options of wgpu's Vulkan backend for a module whose run-time checks are on
    /// and whose workgroup memory is not initialized, as the engine creates them.
    fn spirv(&self, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
        let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
        validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
        let info = validator.validate(&module).map_err(|e| e.emit_to_string(text))?;
        let buffer =
            if self.checks_buffers { BoundsCheckPolicy::Unchecked } else { BoundsCheckPolicy::Restrict };
        let options = spv::Options {
            lang_version: self.spirv,
            flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
            bounds_check_policies: BoundsCheckPolicies {
                index: BoundsCheckPolicy::Restrict,
                buffer,
                ..BoundsCheckPolicies::default()
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            ..spv::Options::default()
        };
        let entry =
            spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
        Ok(spv::write_vec(&module, &info, &options, Some(&entry))?)
    }
}
