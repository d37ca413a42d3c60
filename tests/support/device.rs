//! The device that all tests share, and a compiled plan as an [`Executor`].

use super::compare::widen;
use super::executor::Executor;
use frazil::Result;
use frazil::gpu::{Gpu, GpuOptions};
use frazil::low_level::{DType, Graph, ParameterId, StepScalars, ValueId};
use frazil::low_level::{GemmFamily, TileSet};
use frazil::low_level::{Plan, PlanOptions};
use frazil::mask::Mask;
use std::sync::OnceLock;

/// Returns the device under test: the default adapter, opened with cooperative matrices if it supports them.
///
/// On a machine without an adapter, tests fail and are not skipped.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    // Disables `compile_ahead`, which needs idle cores: the test threads leave none idle.
    let options = GpuOptions::default().compile_ahead(false).cooperative_matrix(true);
    GPU.get_or_init(|| Gpu::new(options).expect("an adapter to test"))
}

/// Returns the GEMM families that the adapter supports, without `tiled-large`: the GEMMs of these tests are
/// so small that it would use small tiles, too. tests/op_table.rs covers large tiles.
pub fn families() -> Vec<GemmFamily> {
    let mut all = GemmFamily::supported(gpu().report());
    all.retain(|&family| family != GemmFamily::Tiled { tiles: TileSet::Large });
    all
}

/// A compiled plan as an [`Executor`]: converts inputs from f64 and results to f64.
pub struct Device(pub Plan);

impl Executor for Device {
    fn write(&mut self, value: ValueId, data: &[f64]) -> Result<()> {
        match self.0.graph().value(value).unwrap().dtype {
            DType::F32 => self.0.write_f32(value, &data.iter().map(|&x| x as f32).collect::<Vec<_>>()),
            DType::U32 => self.0.write_u32(value, &data.iter().map(|&x| x as u32).collect::<Vec<_>>()),
        }
    }
    fn set_mask(&mut self, parameter: ParameterId, mask: &Mask) -> Result<()> {
        self.0.store().write_mask(parameter, mask)
    }
    fn set_missed_steps(&mut self, parameter: ParameterId, missed: &[u32]) -> Result<()> {
        self.0.store().write_missed_steps(parameter, missed)
    }
    fn run(&mut self, step: StepScalars) -> Result<()> {
        self.0.run(step)
    }
    fn read(&mut self, value: ValueId) -> Vec<f64> {
        match self.0.graph().value(value).unwrap().dtype {
            DType::F32 => widen(&self.0.read_f32(value).unwrap()),
            DType::U32 => self.0.read_u32(value).unwrap().into_iter().map(f64::from).collect(),
        }
    }
    fn state(&mut self, parameter: ParameterId, slot: usize) -> Vec<f64> {
        let words = self.0.store().read_state(slot, parameter).unwrap();
        words.into_iter().map(|word| f64::from(f32::from_bits(word))).collect()
    }
    fn write_state(&mut self, parameter: ParameterId, slot: usize, data: &[f64]) -> Result<()> {
        let words: Vec<_> = data.iter().map(|&x| (x as f32).to_bits()).collect();
        self.0.store().write_state(slot, parameter, &words)
    }
}

/// Compiles a plan in a GEMM family.
pub fn device(graph: &Graph, family: GemmFamily) -> Box<dyn Executor> {
    device_with(graph, &PlanOptions::default().family(family))
}

/// Compiles a plan with these options.
pub fn device_with(graph: &Graph, options: &PlanOptions) -> Box<dyn Executor> {
    Box::new(Device(Plan::compile(gpu(), graph, options).unwrap()))
}
