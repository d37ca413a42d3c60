//! The step that each workload executes.

use super::workload::{Convolution, Workload};
use super::{BenchArgs, Structure, invalid};
use frazil::low_level::{Conv2d, DType, Graph, Op, ParameterId, Role, StepScalars};
use frazil::low_level::{Crossing, PlanReport, TimedDispatch};
use frazil::low_level::{Padding, Shape, Window};
use frazil::low_level::{Plan, PlanOptions, Purpose, Stream};
use frazil::{Batch, FreezeRule, Gpu, Loss, Mask, Model, Result, Trainer, TrainerOptions};
use std::collections::BTreeSet;

/// The frozen elements of a model.
#[derive(Clone, Copy, PartialEq)]
pub enum Variant {
    /// No frozen elements; masks are never set.
    Plain,
    /// No frozen elements, but empty masks are set. This is the control of the measurement: it must take as
    /// long as [`Variant::Plain`].
    EmptyMask,
    /// This fraction of each kernel is frozen, except in the last layer.
    Frozen(f64),
    /// This fraction of each kernel is frozen, except in the last layer, and the model is trained on cached
    /// outputs of the frozen lowest layers.
    Cached(f64),
}

impl Variant {
    /// The frozen fraction.
    pub fn fraction(self) -> f64 {
        match self {
            Variant::Plain | Variant::EmptyMask => 0.0,
            Variant::Frozen(fraction) | Variant::Cached(fraction) => fraction,
        }
    }

    pub fn is_cached(self) -> bool {
        matches!(self, Variant::Cached(_))
    }
}

/// A compiled variant of a workload.
pub struct Job {
    pub workload: Workload,
    pub variant: Variant,
    pub rows: usize,
    work: Work,
}

enum Work {
    Train(Box<Trainer>, Batch),
    Run { step: Box<Plan>, forward: Option<Box<Plan>> },
}

impl Job {
    pub fn new(gpu: &Gpu, args: &BenchArgs, workload: Workload, variant: Variant) -> Result<Self> {
        let options = plan_options(args);
        let plan = |graph: &Graph| {
            let plan = Plan::compile(gpu, graph, &options)?;
            fill(&plan)?;
            Ok::<_, frazil::Error>(Box::new(plan))
        };
        let rows = workload.batch(args.batch);
        let work = match workload {
            Workload::Model(name) => train(gpu, args, name, rows, variant)?,
            Workload::Gradients(name) => {
                let model = Model::named(name)?;
                let step = plan(&model.gradient_graph(rows, Loss::SoftmaxCrossEntropy)?.0.graph)?;
                write_weights(&step, &model)?;
                Work::Run { step, forward: None }
            }
            Workload::ConvLayer => Work::Run {
                step: plan(&conv_layer(rows, true)?)?,
                forward: Some(plan(&conv_layer(rows, false)?)?),
            },
            Workload::Convolution(shape) => Work::Run { step: plan(&convolution(shape)?)?, forward: None },
            Workload::Gemm(n) => Work::Run { step: plan(&gemm(n)?)?, forward: None },
            Workload::Update(n) => Work::Run { step: plan(&update(n, args)?)?, forward: None },
        };
        Ok(Job { workload, variant, rows, work })
    }

    /// The shares of each kernel that must be frozen to make its weight gradient cheaper, by the cost model; empty
    /// for a workload that does not train a model.
    pub fn crossings(&self, gpu: &Gpu, args: &BenchArgs) -> Result<Vec<Crossing>> {
        let Workload::Model(name) = self.workload else { return Ok(Vec::new()) };
        let graph = Model::named(name)?.gradient_graph(self.rows, Loss::SoftmaxCrossEntropy)?.0.graph;
        Plan::crossings(&graph, gpu.report(), &plan_options(args))
    }

    /// The name of the workload and its variant.
    pub fn name(&self) -> String {
        match self.variant {
            Variant::Plain => self.workload.to_string(),
            Variant::EmptyMask => format!("{}, empty mask", self.workload),
            Variant::Frozen(fraction) => format!("{}, {} % frozen", self.workload, percent(fraction)),
            Variant::Cached(fraction) => format!("{}, {} %, cached", self.workload, percent(fraction)),
        }
    }

    pub fn step(&mut self) -> Result<()> {
        match &mut self.work {
            Work::Train(trainer, batch) if self.variant.is_cached() => trainer.step_above(batch),
            Work::Train(trainer, batch) => trainer.step(batch),
            Work::Run { step, .. } => step.run(StepScalars::forward(self.rows)),
        }
    }

    pub fn has_forward(&self) -> bool {
        matches!(self.work, Work::Run { forward: Some(_), .. })
    }

    pub fn forward(&self) -> Result<()> {
        match &self.work {
            Work::Run { forward: Some(forward), .. } => forward.run(StepScalars::forward(self.rows)),
            _ => Ok(()),
        }
    }

    pub fn profile(&mut self) -> Result<Vec<TimedDispatch>> {
        match &mut self.work {
            Work::Train(trainer, batch) if self.variant.is_cached() => trainer.profile_step_above(batch),
            Work::Train(trainer, batch) => trainer.profile_step(batch),
            Work::Run { step, .. } => step.profile(StepScalars::forward(self.rows)),
        }
    }

    pub fn report(&self) -> &PlanReport {
        match &self.work {
            Work::Train(trainer, _) if self.variant.is_cached() => {
                trainer.report_above().unwrap_or(trainer.report())
            }
            Work::Train(trainer, _) => trainer.report(),
            Work::Run { step, .. } => step.report(),
        }
    }
}

fn plan_options(args: &BenchArgs) -> PlanOptions {
    let options = PlanOptions::default().winograd(args.algorithm);
    match args.family {
        Some(family) => options.family(family),
        None => options,
    }
}

/// Writes random numbers to all inputs: zeros would need less power, and some GPUs would compute them faster. Labels
/// are 0.
fn fill(plan: &Plan) -> Result<()> {
    let graph = plan.graph();
    let operands: BTreeSet<_> = graph.nodes().iter().flat_map(|node| node.inputs.clone()).collect();
    let mut draw = Stream::new(1, Purpose::Data, 0);
    for id in operands {
        let input = graph.value(id).filter(|value| value.role == Role::Input && value.dtype == DType::F32);
        if let Some(input) = input {
            let numbers: Vec<f32> = (0..input.shape.elements()).map(|_| draw.uniform(-1.0, 1.0)).collect();
            plan.write_f32(id, &numbers)?;
        }
    }
    Ok(())
}

/// Writes the initial weights of a model to the plan's store.
fn write_weights(plan: &Plan, model: &Model) -> Result<()> {
    let mut draw = Stream::new(1, Purpose::Weights, 0);
    for (index, spec) in model.parameters().iter().enumerate() {
        let values = spec.init.values(&spec.path, spec.shape.elements(), spec.fan, &mut draw)?;
        let bits: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
        plan.store().write_weights(ParameterId::of(index), &bits)?;
    }
    Ok(())
}

/// Converts a fraction to percent, rounded to a tenth: 0.995 must not print as 100.
fn percent(fraction: f64) -> f64 {
    (1000.0 * fraction).round() / 10.0
}

fn train(gpu: &Gpu, args: &BenchArgs, name: &str, rows: usize, variant: Variant) -> Result<Work> {
    let model = Model::named(name)?;
    let shape = <[usize; 3]>::try_from(model.example_shape())
        .map_err(|_| invalid("--workload", "a model of images", name))?;
    let data = frazil::data::synthetic("synthetic", shape, model.output()[0], rows, 1)?;
    let mut options = TrainerOptions::batch(rows).progress_every(0).winograd(args.algorithm);
    if let Some(family) = args.family {
        options = options.family(family);
    }
    let mut trainer = Trainer::new(gpu, model, Loss::SoftmaxCrossEntropy, args.optimizer()?, options)?;
    if variant != Variant::Plain {
        freeze(&mut trainer, variant.fraction(), args.structure)?;
    }
    let data = if variant.is_cached() { trainer.prefix_features(&data)? } else { data };
    let mut batches = data.batches(rows, 1)?;
    let batch = batches.next().ok_or(frazil::Error::EmptyBatch { at: "--batch".to_owned() })?;
    Ok(Work::Train(Box::new(trainer), batch))
}

/// Freezes a fraction of each kernel except the last.
fn freeze(trainer: &mut Trainer, fraction: f64, structure: Structure) -> Result<()> {
    let kernels: Vec<(String, Vec<usize>)> = trainer
        .model()
        .parameters()
        .iter()
        .filter(|p| p.path.ends_with(".kernel"))
        .map(|p| (p.path.clone(), p.shape.extents().to_vec()))
        .collect();
    let part = |count: usize| (fraction * count as f64).round() as usize;
    let convolutions = kernels.iter().filter(|(_, extents)| extents.len() == 4).count();
    for (number, (path, extents)) in kernels.iter().enumerate().take(kernels.len().saturating_sub(1)) {
        let columns = extents.last().copied().unwrap_or(1);
        let rows = extents.iter().product::<usize>() / columns;
        let of = |frozen: &dyn Fn(usize) -> bool| {
            FreezeRule::mask(Mask::from_frozen((0..rows * columns).map(frozen)))
        };
        let rule = match structure {
            Structure::Scattered => FreezeRule::random(fraction),
            Structure::Filters => of(&|index| index % columns < part(columns)),
            Structure::Rows => of(&|index| index / columns < part(rows)),
            Structure::Layers if number < part(convolutions) => {
                let bias = path.replace(".kernel", ".bias");
                // A convolution before a batch norm has no bias.
                if trainer.model().parameters().iter().any(|p| p.path == bias) {
                    trainer.freeze(&bias, FreezeRule::all())?;
                }
                FreezeRule::all()
            }
            Structure::Layers => FreezeRule::none(),
        };
        trainer.freeze(path, rule)?;
    }
    Ok(())
}

fn conv_layer(rows: usize, gradients: bool) -> Result<Graph> {
    let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
    let conv = Conv2d::new([32, 32, 64], 64, window, 1, "conv-layer")?;
    let mut graph = Graph::new(rows)?;
    let x = graph.batch_input("x", &[32, 32, 64], DType::F32)?;
    let dy = graph.batch_input("dy", &[32, 32, 64], DType::F32)?;
    let kernel = graph.input("kernel", Shape::new(conv.kernel_shape())?, DType::F32);
    let mut results = vec![graph.push_one(Op::Conv2d(conv), &[x, kernel], "forward")?];
    if gradients {
        results.push(graph.push_one(Op::Conv2dGradKernel(conv), &[x, dy], "grad_kernel")?);
        results.push(graph.push_one(Op::Conv2dGradInput(conv), &[dy, kernel], "grad_input")?);
    }
    results.into_iter().try_for_each(|result| graph.mark_output(result))?;
    Ok(graph)
}

fn convolution(shape: &Convolution) -> Result<Graph> {
    let Convolution { side, c_in, batch, kernel, c_out } = *shape;
    let conv = Conv2d::new([side, side, c_in], c_out, Window::new([kernel; 2]), 1, "conv-llama")?;
    let mut graph = Graph::new(batch)?;
    let x = graph.batch_input("x", &[side, side, c_in], DType::F32)?;
    let kernel = graph.input("kernel", Shape::new(conv.kernel_shape())?, DType::F32);
    let y = graph.push_one(Op::Conv2d(conv), &[x, kernel], "conv-llama")?;
    graph.mark_output(y)?;
    Ok(graph)
}

fn gemm(n: usize) -> Result<Graph> {
    let mut graph = Graph::new(1)?;
    let a = graph.input("a", Shape::new([n, n])?, DType::F32);
    let b = graph.input("b", Shape::new([n, n])?, DType::F32);
    let gemm = Op::MatMul { transpose_a: false, transpose_b: false };
    let c = graph.push_one(gemm, &[a, b], "gemm")?;
    graph.mark_output(c)?;
    Ok(graph)
}

fn update(n: usize, args: &BenchArgs) -> Result<Graph> {
    let mut graph = Graph::new(1)?;
    graph.parameter("weights", Shape::new([n])?)?;
    let gradient = graph.input("gradient", Shape::new([n])?, DType::F32);
    graph.push(
        Op::Update(*args.optimizer()?.rule(), vec![ParameterId::of(0).into()]),
        &[gradient],
        "update",
    )?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn percentages_are_rounded_to_a_tenth() {
        assert_eq!([0.995, 0.5, 1.0, 0.07].map(|f| percent(f).to_string()), ["99.5", "50", "100", "7"]);
    }
}
