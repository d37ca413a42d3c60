//! Tests the predictor against the trainer whose parameters it has.

use crate::support::device::gpu;
use frazil::gpu::Gpu;
use frazil::low_level::PlanReport;
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
