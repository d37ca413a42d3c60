//! The models that come with the crate, on the device.

use crate::support::device::gpu;
use frazil::data::synthetic;
use frazil::{Loss, Model, Padding, Sgd, Trainer, TrainerOptions};

#[test]
fn every_named_model_trains_a_step() {
    for name in Model::NAMES {
        let model = Model::named(name).unwrap();
        let data = synthetic(name, model.example_shape(), 10, 4, 1).unwrap();
        let options = TrainerOptions::batch(2).seed(3);
        let mut trainer =
            Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.01), options).unwrap();
        let read = |trainer: &Trainer| -> Vec<Vec<f32>> {
            let parameters = trainer.model().parameters();
            parameters.iter().map(|p| trainer.parameter(&p.path).unwrap()).collect()
        };
        let before = read(&trainer);
        let batch = data.in_order(2).unwrap().next().unwrap();
        let loss = trainer.step_loss(&batch).unwrap();
        assert!(loss.is_finite() && loss > 0.0, "{name}: {loss}");
        let after = read(&trainer);
        for ((before, after), spec) in before.iter().zip(&after).zip(trainer.model().parameters()) {
            // A batch norm further up undoes the scale of a channel that nothing mixes with others before it.
            let path = spec.path.as_str();
            let before_depthwise =
                path == "bn1.scale" || path.starts_with("pointwise") && path.ends_with(".scale");
            let undone = name == "mobilenet-small" && before_depthwise;
            assert!(undone || before != after, "{name}: {} moves", spec.path);
            assert!(after.iter().all(|x| x.is_finite()), "{name}: {}", spec.path);
        }
        assert!(trainer.evaluate(&data).unwrap().loss.is_finite(), "{name}");
    }
}

#[test]
fn both_pools_take_all_settings_of_a_window() {
    let rows = |padding: Padding, stride: usize, dilation: usize| {
        let set =
            |p: frazil::layer::Pool2dLayer| p.padding(padding).stride([stride, 1]).dilation([dilation; 2]);
        let build = |model: frazil::model::ModelBuilder| model.flatten().dense("fc", 1).build().unwrap();
        let models = [
            build(Model::input([9, 7, 2]).max_pool2d_with([3, 3], set)),
            build(Model::input([9, 7, 2]).avg_pool2d_with([3, 3], set)),
        ];
        models.map(|model| model.parameters()[0].shape.extents()[0])
    };
    assert_eq!(rows(Padding::Valid, 1, 1), [7 * 5 * 2; 2]);
    assert_eq!(rows(Padding::Valid, 1, 2), [5 * 3 * 2; 2]);
    assert_eq!(rows(Padding::Same, 2, 1), [5 * 7 * 2; 2]);
}
