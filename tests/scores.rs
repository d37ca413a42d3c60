//! Tests scores of weights that are accumulated over batches, and masks by them.

use crate::support::training::*;
use frazil::mask::Score;
use frazil::trainer::GradientPolicy;
use frazil::{Batch, Dataset, Error, FreezeRule, Sgd};

/// The gradient of each batch at the same weights, from a step with dense gradients of a new trainer.
fn gradients(batches: &[Batch], path: &str) -> Vec<Vec<f32>> {
    let options = continuing().keep_gradients(true).gradient_policy(GradientPolicy::Dense);
    let of = |batch: &Batch| {
        let mut t = trainer(Sgd::new(0.05).into(), options.clone());
        t.step(batch).unwrap();
        t.gradient(path).unwrap()
    };
    batches.iter().map(of).collect()
}

#[test]
fn scores_are_sums_over_batches_of_the_gradients_and_change_nothing() {
    let mut t = trainer(Sgd::new(0.05).into(), continuing());
    let batches = batches(3);
    let path = "conv.kernel";
    let gradients = gradients(&batches, path);
    let weights = t.parameter(path).unwrap();
    // Frozen elements have scores, too.
    t.freeze(path, FreezeRule::random(0.5)).unwrap();
    let before = (t.digest().unwrap(), t.steps());
    type Term = fn(f64, f64) -> f64;
    let terms: [(Score, Term); 3] = [
        (Score::Gradient, |_, g| g.abs()),
        (Score::SquaredGradient, |_, g| g * g),
        (Score::WeightGradient, |w, g| (w * g).abs()),
    ];
    for (score, term) in terms {
        let scores = t.scores(score, batches.iter().cloned()).unwrap();
        let paths: Vec<_> = t.model().parameters().iter().map(|p| p.path.clone()).collect();
        assert_eq!(scores.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), paths);
        let (_, found) = scores.iter().find(|(other, _)| other == path).unwrap();
        let largest = found.iter().copied().fold(0.0, f32::max);
        assert!(largest > 0.0);
        for (index, &found) in found.iter().enumerate() {
            let sum: f64 =
                gradients.iter().map(|g| term(f64::from(weights[index]), f64::from(g[index]))).sum();
            let error = (f64::from(found) - sum).abs();
            assert!(error <= 1e-5 * f64::from(largest), "{score:?}[{index}]: expected {sum}, got {found}");
        }
        assert_eq!(t.scores(score, batches.iter().cloned()).unwrap(), scores, "the same bits each time");
    }
    assert_eq!((t.digest().unwrap(), t.steps()), before);
}

#[test]
fn only_the_elements_of_largest_score_train() {
    let mut t = trainer(Sgd::new(0.05).momentum(0.9).into(), continuing());
    let scores = t.scores(Score::SquaredGradient, batches(2)).unwrap();
    let rule = FreezeRule::top_score(0.1, Score::SquaredGradient);
    let error = t.freeze("*.kernel", rule.clone()).unwrap_err();
    assert!(error.to_string().contains("Trainer::scores"), "{error}");
    assert_eq!(t.frozen_count(), 0);
    t.freeze("*.kernel", rule.global().scores_by_path(scores.clone())).unwrap();
    let mut kernels: Vec<f32> = Vec::new();
    let mut trained: Vec<f32> = Vec::new();
    for (path, scores) in scores.iter().filter(|(path, _)| path.ends_with("kernel")) {
        kernels.extend(scores);
        trained.extend(t.mask(path).unwrap().complement().frozen_indices().map(|index| scores[index]));
    }
    kernels.sort_by(|a, b| b.total_cmp(a));
    trained.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(trained.len(), (0.1 * kernels.len() as f64).round() as usize);
    assert_eq!(trained, kernels[..trained.len()]);
    let before = snapshot(&t);
    train(&mut t, 5);
    assert_frozen("scores", &t, &before);
}

#[test]
fn batches_without_finite_gradients_are_named_errors() {
    let t = trainer(Sgd::new(0.05).into(), continuing());
    assert!(matches!(t.scores(Score::Gradient, []), Err(Error::EmptyBatch { .. })));
    let mut bad = batches(1).remove(0);
    bad.features[3] = f32::NAN;
    let error = t.scores(Score::Gradient, [bad.clone()]).unwrap_err().to_string();
    assert!(error.contains("finite gradients"), "{error}");
    bad.features.pop();
    assert!(matches!(t.scores(Score::Gradient, [bad]), Err(Error::ShapeMismatch { .. })));
    let other = Dataset::new("other", [2], vec![0.0; 4], vec![0, 1], 2).unwrap();
    let wrong = t.scores(Score::Gradient, other.in_order(2).unwrap());
    assert!(matches!(wrong, Err(Error::ShapeMismatch { .. })), "{wrong:?}");
}
