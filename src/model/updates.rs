use super::Model;
use crate::error::Result;
use crate::graph::{Clip, Graph, Op, ParameterId, Target, UpdateRule, ValueId};
use crate::optimizer::Optimizer;

/// What a training graph does with its gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Updates {
    rule: UpdateRule,
    clip: Option<Clip>,
    accumulate: bool,
    /// By parameter: factors of the learning rate and of the weight decay; 1 beyond the end.
    factors: Vec<[f64; 2]>,
}

impl From<UpdateRule> for Updates {
    /// The rule alone.
    fn from(rule: UpdateRule) -> Self {
        Updates { rule, clip: None, accumulate: false, factors: Vec::new() }
    }
}

impl Updates {
    /// What an optimizer does with a model's parameters, after each batch or after several.
    ///
    /// # Errors
    /// [`crate::Error::UnknownParameter`] for a glob of the optimizer that matches nothing.
    pub fn new(model: &Model, optimizer: &Optimizer, accumulate: bool) -> Result<Self> {
        let paths: Vec<_> = model.parameters().iter().map(|p| p.path.as_str()).collect();
        let factors = optimizer.factors(&paths)?;
        Ok(Updates { rule: *optimizer.rule(), clip: optimizer.clip_setting(), accumulate, factors })
    }

    pub(super) fn push(
        &self,
        graph: &mut Graph,
        parameters: Vec<ParameterId>,
        gradients: &[ValueId],
    ) -> Result<()> {
        let target = |&parameter: &ParameterId| {
            let [learning_rate, weight_decay] =
                self.factors.get(parameter.index()).copied().unwrap_or([1.0; 2]);
            Target { parameter, learning_rate, weight_decay }
        };
        let targets = parameters.iter().map(target).collect();
        if self.accumulate {
            graph.push(Op::Accumulate(parameters.clone()), gradients, "accumulate")?;
        }
        if let Some(clip) = self.clip {
            graph.push(Op::Clip(clip, parameters), gradients, "clip")?;
        }
        graph.push(Op::Update(self.rule, targets), gradients, "update")?;
        Ok(())
    }
}
