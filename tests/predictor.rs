//! Tests the predictor against the trainer whose parameters it has.

use crate::support::compare::{assert_relative, widen};
use crate::support::device::gpu;
use crate::support::executor::reference;
use frazil::gpu::Gpu;
use frazil::low_level::{ParameterId, PlanReport, StepScalars};
use frazil::{Adam, Digits, Error, GpuOptions, Loss, Model, Predictor, Trainer, TrainerOptions};

/// A network with batch norm and dropout, which differ between training and inference.
fn model() -> Model {
    Model::input([8, 8, 1])
        .conv2d("conv", 8, [3, 3], |c| c)
        .batch_norm("bn")
        .relu()
        .dropout(0.3)
        .flatten()
        .dense("fc", 10)
        .build()
        .unwrap()
}

fn trained(gpu: &Gpu) -> Trainer {
    let options = TrainerOptions::batch(32).seed(4);
    let mut trainer =
        Trainer::new(gpu, model(), Loss::SoftmaxCrossEntropy, Adam::new(0.01), options).unwrap();
    for batch in Digits::train().unwrap().batches(32, 5).unwrap().take(6) {
        trainer.step(&batch).unwrap();
    }
    trainer
}

fn parameters(trainer: &Trainer) -> Vec<(String, Vec<f32>)> {
    let paths = trainer.model().parameters().iter().map(|p| p.path.clone());
    paths.map(|path| (path.clone(), trainer.parameter(&path).unwrap())).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn predictor_gives_the_outputs_of_its_trainer() {
    let trainer = trained(gpu());
    let images: Vec<f32> = Digits::test().unwrap().features()[..70 * 64].to_vec();
    let expected = bits(&trainer.predict(&images).unwrap());
    let file = std::env::temp_dir().join(format!("frazil-predictor-{}.safetensors", std::process::id()));
    trainer.save(&file).unwrap();
    // With batches that do and do not divide the number of rows.
    for batch in [1, 16, 35, 128] {
        let loaded = Predictor::load(gpu(), model(), &file, batch).unwrap();
        assert_eq!(bits(&loaded.predict(&images).unwrap()), expected, "batch {batch}");
        let given = Predictor::new(gpu(), model(), &parameters(&trainer), batch).unwrap();
        assert_eq!(bits(&given.predict(&images).unwrap()), expected, "batch {batch}");
    }
    std::fs::remove_file(&file).unwrap();

    // Several threads, one predictor.
    let predictor = Predictor::new(gpu(), model(), &parameters(&trainer), 16).unwrap();
    std::thread::scope(|scope| {
        let threads = [0, 1, 2, 3].map(|first| {
            let (predictor, images, expected) = (&predictor, &images, &expected);
            scope.spawn(move || {
                for _ in 0..5 {
                    let got = predictor.predict(&images[first * 64..]).unwrap();
                    assert_eq!(bits(&got), expected[first * 10..]);
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn predictor_needs_no_memory_of_training_and_reports_all_it_uses() {
    let gpu = Gpu::new(GpuOptions::default()).unwrap();
    let trainer = trained(&gpu);
    let of_trainer = gpu.allocated_bytes();
    let parameters = parameters(&trainer);
    let predictor = Predictor::new(&gpu, model(), &parameters, 32).unwrap();
    let of_predictor = gpu.allocated_bytes() - of_trainer;
    assert_eq!(predictor.report().bytes(), of_predictor);
    // Weights and masks, and no arena of gradients or of Adam's two moments.
    let has = |report: &PlanReport, name: &str| report.persistent.iter().any(|buffer| buffer.name == name);
    for (name, in_predictor) in
        [("weights", true), ("masks", true), ("gradients", false), ("m", false), ("v", false)]
    {
        assert!(has(trainer.report(), name), "{name}");
        assert_eq!(has(predictor.report(), name), in_predictor, "{name}");
    }
    assert!(of_predictor < of_trainer, "{of_predictor} of {of_trainer} bytes");
}

#[test]
fn parameters_that_do_not_fit_are_named_errors() {
    let trainer = trained(gpu());
    let all = parameters(&trainer);
    let refused =
        |parameters: &[(String, Vec<f32>)]| Predictor::new(gpu(), model(), parameters, 4).unwrap_err();
    let error = refused(&all[1..]);
    assert!(
        matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains("conv.kernel"),
        "{error}"
    );
    let mut other = all.clone();
    other[0].0 = "conv1.kernel".to_owned();
    assert!(matches!(refused(&other), Error::UnknownParameter { .. }));
    let mut short = all.clone();
    short[0].1.pop();
    assert!(matches!(refused(&short), Error::ShapeMismatch { .. }));
    let empty = Predictor::new(gpu(), model(), &all, 0).unwrap_err();
    assert!(matches!(empty, Error::EmptyBatch { .. }), "{empty}");
    let predictor = Predictor::new(gpu(), model(), &all, 4).unwrap();
    assert!(matches!(predictor.predict(&[0.0; 63]), Err(Error::ShapeMismatch { .. })));
    assert_eq!(predictor.predict(&[]).unwrap(), [] as [f32; 0]);
}

/// Two inputs; the outputs are a value that other layers use, the last layer and an input.
fn branches() -> Model {
    let left = Model::named_input("left", [6, 6, 1]).conv2d("conv", 4, [3, 3], |c| c).batch_norm("bn").relu();
    let right = Model::named_input("right", [4, 4, 4]);
    let sum = left.clone().add("sum", [right.clone()]);
    let head = sum.clone().flatten().dropout(0.3).dense("fc", 3);
    Model::with_outputs([sum, head, right]).unwrap()
}

#[test]
fn models_with_several_inputs_and_outputs_match_the_reference() {
    let model = branches();
    let wave = |count: usize, seed: usize| -> Vec<f32> {
        (0..count).map(|i| ((1 + i * 7 + seed * 31) as f32 * 0.7).sin() * 0.4 + 0.5).collect()
    };
    let parameters = model.parameters().iter().enumerate();
    let parameters: Vec<_> =
        parameters.map(|(seed, p)| (p.path.clone(), wave(p.shape.elements(), seed))).collect();
    const ROWS: usize = 5;
    let (left, right) = (wave(ROWS * 36, 50), wave(ROWS * 64, 60));

    let built = model.inference_graph(ROWS).unwrap();
    let mut executor = reference(&built.graph);
    for (index, (_, values)) in parameters.iter().enumerate() {
        let value = built.graph.parameter_value(ParameterId::of(index)).unwrap();
        executor.write(value, &widen(values)).unwrap();
    }
    executor.write(built.inputs[0], &widen(&left)).unwrap();
    executor.write(built.inputs[1], &widen(&right)).unwrap();
    executor.run(StepScalars::forward(ROWS)).unwrap();
    let expected: Vec<_> = built.outputs.iter().map(|&output| executor.read(output)).collect();

    for batch in [2, 5, 16] {
        let predictor = Predictor::new(gpu(), model.clone(), &parameters, batch).unwrap();
        // In another order than that of the model.
        let got = predictor.predict_named(&[("right", &right), ("left", &left)]).unwrap();
        let names: Vec<_> = got.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sum", "fc", "right"]);
        for ((name, got), expected) in got.iter().zip(&expected) {
            assert_relative(name, &widen(got), expected, 1e-5);
        }
        assert_eq!(bits(&got[2].1), bits(&right));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    assert_eq!(predictor.predict_named(&[("left", &left), ("right", &right)]).unwrap(), got)
                });
            }
        });
    }
    let predictor = Predictor::new(gpu(), model.clone(), &parameters, 4).unwrap();
    let none = predictor.predict_named(&[("left", &[]), ("right", &[])]).unwrap();
    assert!(none.len() == 3 && none.iter().all(|(_, values)| values.is_empty()));
}

#[test]
fn inputs_that_do_not_fit_are_named_errors() {
    let model = branches();
    let ones: Vec<_> =
        model.parameters().iter().map(|p| (p.path.clone(), vec![1.0; p.shape.elements()])).collect();
    let predictor = Predictor::new(gpu(), model, &ones, 4).unwrap();
    let (left, right) = (vec![0.0; 72], vec![0.0; 128]);
    let refused = |inputs: &[(&str, &[f32])], part: &str| {
        let error = predictor.predict_named(inputs).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(&[("left", &left)], "left, right once");
    refused(&[("left", &left), ("left", &left)], "left, left");
    refused(&[("left", &left), ("right", &right), ("other", &left)], "left, right, other");
    refused(&[("left", &left), ("right", &right[1..])], "rows of 64 features");
    refused(&[("left", &left), ("right", &right[64..])], "2 examples, as in left");
    let error = predictor.predict(&left).unwrap_err().to_string();
    assert!(error.contains("predict_named") && error.contains("2 inputs and 3 outputs"), "{error}");
}
