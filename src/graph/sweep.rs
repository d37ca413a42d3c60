//! The reverse sweep: order of the adjoints, and summation of gradients over several uses of a value.

use super::backward::Adjoint;
use super::{DType, Graph, Op, Role, ValueId};
use crate::error::{Error, Result};

/// The gradient of the loss with respect to one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Gradient {
    /// `factor` times the gradient of the mean of the value's elements in use. Materialized only on demand,
    /// because losses have operations that compute the gradient of their mean directly. With `weights` =
    /// `[labels, class_weights]`, the mean is the weighted mean of [`Op::Metrics`].
    Mean { factor: f64, weights: Option<[ValueId; 2]> },
    /// A value of the graph.
    Computed(ValueId),
}

/// The contribution of one use to the gradient of a value.
#[derive(Clone, Copy, Debug)]
struct Term {
    /// The use: index of the node, index of the operand.
    site: (usize, usize),
    gradient: Gradient,
}

/// The state of one reverse sweep. Vectors are indexed by value, node or parameter, as noted.
pub(super) struct Sweep<'a> {
    pub graph: &'a mut Graph,
    /// By value: whether the loss depends on it and it depends on a wanted value.
    pub needed: Vec<bool>,
    /// By value: the node that computes it.
    pub producers: Vec<Option<usize>>,
    /// By node: its immediate post-dominator, the first later node on all of its paths to the loss; the node
    /// of the loss has itself.
    post_dominators: Vec<usize>,
    /// By parameter: the last node that updates it.
    last_updates: Vec<Option<usize>>,
    /// By value: the number of uses whose terms are pending.
    pending: Vec<usize>,
    /// By value: the terms so far.
    terms: Vec<Vec<Term>>,
    /// By value: the sum of all terms; `None` while terms are pending, and if there are none.
    gradients: Vec<Option<Gradient>>,
}

impl<'a> Sweep<'a> {
    pub fn new(graph: &'a mut Graph, loss: ValueId, wanted: &[ValueId]) -> Self {
        let (values, nodes) = (graph.values.len(), &graph.nodes);
        let mut influences = vec![false; values];
        influences[loss.0] = true;
        for node in nodes.iter().rev() {
            // Integers (positions, labels) have no derivative.
            let floats = |id: &&ValueId| graph.at(**id).dtype == DType::F32;
            if node.outputs.iter().filter(floats).any(|id| influences[id.0]) {
                node.inputs.iter().for_each(|id| influences[id.0] = true);
            }
        }
        let mut depends = vec![false; values];
        wanted.iter().for_each(|id| depends[id.0] = true);
        let mut producers = vec![None; values];
        let mut last_updates = vec![None; graph.parameters.len()];
        for (index, node) in nodes.iter().enumerate() {
            let any = node.inputs.iter().any(|id| depends[id.0]);
            for id in &node.outputs {
                producers[id.0] = Some(index);
                depends[id.0] |= any && graph.at(*id).dtype == DType::F32;
            }
            match &node.op {
                Op::Update(_, targets) => {
                    targets.iter().for_each(|t| last_updates[t.parameter.0] = Some(index));
                }
                Op::UpdateStatistics(_, targets) => {
                    targets.iter().for_each(|t| last_updates[t.0] = Some(index));
                }
                _ => {}
            }
        }
        let needed: Vec<_> = influences.iter().zip(depends).map(|(i, d)| *i && d).collect();
        // By value: the nodes that use it on a path from a wanted value to the loss, once per operand.
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); values];
        let mut post_dominators: Vec<_> = (0..nodes.len()).collect();
        for (index, node) in nodes.iter().enumerate().rev() {
            if !node.outputs.iter().any(|id| needed[id.0]) {
                continue;
            }
            let successors = node.outputs.iter().flat_map(|id| users[id.0].iter().copied());
            let common = successors.reduce(|a, b| common_post_dominator(&post_dominators, a, b));
            post_dominators[index] = common.unwrap_or(index);
            node.inputs.iter().filter(|id| needed[id.0]).for_each(|id| users[id.0].push(index));
        }
        Sweep {
            pending: users.iter().map(Vec::len).collect(),
            terms: vec![Vec::new(); values],
            gradients: vec![None; values],
            graph,
            needed,
            producers,
            post_dominators,
            last_updates,
        }
    }

    /// Propagates gradients from the loss to the wanted values, depth first: of two branches that join in a
    /// node, the one of the first operand is differentiated first, down to the value where both begin.
    /// Returns the wanted gradients.
    pub fn run(&mut self, loss: ValueId, wanted: &[ValueId]) -> Result<Vec<ValueId>> {
        if self.needed[loss.0] {
            let mean = Gradient::Mean { factor: 1.0, weights: None };
            self.terms[loss.0].push(Term { site: (self.graph.nodes.len(), 0), gradient: mean });
        }
        let mut done = vec![false; self.graph.nodes.len()];
        self.sum(loss)?;
        // A stack of values whose gradients are complete.
        let mut stack = vec![loss];
        while let Some(value) = stack.pop() {
            let Some(index) = self.producers[value.0] else { continue };
            let ready = self.graph.nodes[index].outputs.iter().all(|id| self.pending[id.0] == 0);
            if !ready || std::mem::replace(&mut done[index], true) {
                continue;
            }
            self.propagate(index)?;
            let mut complete = Vec::new();
            for id in self.graph.nodes[index].inputs.clone() {
                if self.needed[id.0] {
                    self.pending[id.0] -= 1;
                    if self.pending[id.0] == 0 {
                        self.sum(id)?;
                        complete.push(id);
                    }
                }
            }
            stack.extend(complete.into_iter().rev());
        }
        let mut gradients = Vec::with_capacity(wanted.len());
        for &value in wanted {
            let Some(gradient) = self.gradients[value.0] else {
                let name = |id: ValueId| self.graph.at(id).name.clone();
                return Err(Error::NoGradient { value: name(value), loss: name(loss) });
            };
            let gradient = self.materialize(value, gradient)?;
            self.gradients[value.0] = Some(Gradient::Computed(gradient));
            gradients.push(gradient);
        }
        Ok(gradients)
    }

    /// Propagates the gradient of a node's result to its operands.
    fn propagate(&mut self, index: usize) -> Result<()> {
        let node = self.graph.nodes[index].clone();
        // No operation has two differentiable results.
        let Some(dy) = node.outputs.iter().find_map(|id| self.gradients[id.0]) else { return Ok(()) };
        for id in &node.inputs {
            if let Role::Parameter(parameter) = self.graph.at(*id).role
                && self.last_updates[parameter.0].is_some_and(|update| update > index)
            {
                let path = &self.graph.parameters[parameter.0].path;
                return Err(Error::argument(
                    &node.label,
                    "Graph::backward before the update of its operands",
                    format!("{path}, which is already updated"),
                ));
            }
        }
        Adjoint { sweep: self, node: &node, index }.propagate(dy)
    }

    /// Adds a term to the gradient of an operand of node `node` if that gradient is needed.
    pub fn term(&mut self, node: usize, operand: usize, gradient: Gradient) {
        let value = self.graph.nodes[node].inputs[operand];
        if self.needed[value.0] {
            self.terms[value.0].push(Term { site: (node, operand), gradient });
        }
    }

    /// Sums the terms of a value in the order of its uses.
    fn sum(&mut self, value: ValueId) -> Result<()> {
        let mut terms = std::mem::take(&mut self.terms[value.0]);
        terms.sort_by_key(|term| term.site);
        let mut sum: Option<(Gradient, usize)> = None;
        for Term { site: (user, _), gradient } in terms {
            sum = Some(match (sum, gradient) {
                (None, term) => (term, user),
                (
                    Some((Gradient::Mean { factor, weights }, at)),
                    Gradient::Mean { factor: other, weights: other_weights },
                ) if weights == other_weights => {
                    let at = common_post_dominator(&self.post_dominators, at, user);
                    (Gradient::Mean { factor: factor + other, weights }, at)
                }
                (Some((sum, at)), term) => {
                    let both = [self.materialize(value, sum)?, self.materialize(value, term)?];
                    let at = common_post_dominator(&self.post_dominators, at, user);
                    let label = self.sum_label(value, at);
                    (Gradient::Computed(self.graph.push_one(Op::Add, &both, &label)?), at)
                }
            });
        }
        self.gradients[value.0] = sum.map(|(gradient, _)| gradient);
        Ok(())
    }

    /// The label of a sum of gradients: the parameter's path, or the label of the node `join` where the paths
    /// from the value to the loss meet.
    fn sum_label(&self, value: ValueId, join: usize) -> String {
        let info = self.graph.at(value);
        match info.role {
            Role::Parameter(_) => format!("{} grad", info.name),
            _ => format!("{} grad_input", self.graph.nodes[join].label),
        }
    }

    /// Returns the gradient as a value of the graph, appending operations if necessary.
    pub fn materialize(&mut self, value: ValueId, gradient: Gradient) -> Result<ValueId> {
        let name = self.graph.at(value).name.clone();
        match gradient {
            Gradient::Computed(id) => Ok(id),
            Gradient::Mean { weights: Some(_), .. } => Err(Error::NoAdjoint {
                label: name,
                op: Op::Metrics.name(),
                why: "a class-weighted mean needs a cross-entropy with the same class weights",
            }),
            Gradient::Mean { factor, weights: None } => {
                let label = format!("{name} grad");
                let mean = self.graph.push_one(Op::MeanGrad, &[value], &label)?;
                self.scale(mean, factor, &label)
            }
        }
    }

    /// Appends the multiplication of a value by a constant; no operation for 1.
    pub fn scale(&mut self, value: ValueId, factor: f64, label: &str) -> Result<ValueId> {
        if factor == 1.0 { Ok(value) } else { self.graph.push_one(Op::Scale(factor), &[value], label) }
    }
}

/// The first node on all paths from both `a` and `b` to the loss.
fn common_post_dominator(post_dominators: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        // A user has a higher index than its operands' producers, so only the earlier node can advance.
        let earlier = if a < b { &mut a } else { &mut b };
        // All paths meet at the node of the loss at the latest.
        if post_dominators[*earlier] == *earlier {
            return a.max(b);
        }
        *earlier = post_dominators[*earlier];
    }
    a
}
