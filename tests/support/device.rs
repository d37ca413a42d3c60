//! The one device of all tests, and a plan as an executor.

use super::executor::Executor;
use frazil::Result;
use frazil::gpu::{Gpu, GpuOptions};
use frazil::graph::{DType, Graph, ParameterId, StepScalars, ValueId};
use frazil::kernels::{GemmFamily, TileSize};
use frazil::mask::Mask;
use frazil::{Plan, PlanOptions};
use std::sync::OnceLock;

/// The adapter under test: the best there is. A machine without one fails, and does not skip.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    // Tests keep all cores busy themselves.
    let options = GpuOptions::default().compile_ahead(false).cooperative_matrix(true);
    GPU.get_or_init(|| Gpu::new(options).expect("an adapter to test"))
}

/// Every family that the adapter can run, but for the one with large tiles, which small products do not get: the op table has
/// what runs in them.
pub fn families() -> Vec<GemmFamily> {
    let mut all = GemmFamily::supported(gpu().report());
    all.retain(|&family| family != GemmFamily::Tiled { largest: TileSize::Large });
    all
}

/// A plan, with f64 at the door.
pub struct Device(pub Plan);

fn bits(data: &[f64]) -> Vec<u32> {
    data.iter().map(|&x| (x as f32).to_bits()).collect()
}

fn widen(words: Vec<u32>) -> Vec<f64> {
    words.into_iter().map(|w| f64::from(f32::from_bits(w))).collect()
}

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
    fn run(&mut self, step: StepScalars) -> Result<()> {
        self.0.run(step)
    }
    fn read(&mut self, value: ValueId) -> Vec<f64> {
        match self.0.graph().value(value).unwrap().dtype {
            DType::F32 => self.0.read_f32(value).unwrap().into_iter().map(f64::from).collect(),
            DType::U32 => self.0.read_u32(value).unwrap().into_iter().map(f64::from).collect(),
        }
    }
    fn state(&mut self, parameter: ParameterId, slot: usize) -> Vec<f64> {
        widen(self.0.store().read_state(slot, parameter).unwrap())
    }
    fn write_state(&mut self, parameter: ParameterId, slot: usize, data: &[f64]) -> Result<()> {
        self.0.store().write_state(slot, parameter, &bits(data))
    }
}

/// Plans in a family, as executors.
pub fn device(graph: &Graph, family: GemmFamily) -> Box<dyn Executor> {
    Box::new(Device(Plan::compile(gpu(), graph, &PlanOptions::default().family(family)).unwrap()))
}
