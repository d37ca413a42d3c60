//! The order in which adjoints are chained, and the sums of the gradients of a value that has several uses.

use super::backward::Adjoint;
use super::{DType, Graph, Op, Role, ValueId};
use crate::error::{Error, Result};

/// The gradient of the loss in one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Gradient {
    /// `factor` times the gradient of the mean of the value's elements in use. It is not computed before an operation needs it,
    /// for losses have operations that give the gradient of their mean at once. With `weights`, the labels and the weights of
    /// their classes, the mean is the weighted one of [`Op::Metrics`].
    Mean { factor: f64, weights: Option<[ValueId; 2]> },
    /// This value of the graph.
    Computed(ValueId),
}

/// A part of a value's gradient: that of one use.
#[derive(Clone, Copy, Debug)]
struct Term {
    /// The node and the operand, by number.
    of: (usize, usize),
    gradient: Gradient,
}

/// The state of one backward pass. Vectors are by number of value or node.
pub(super) struct Sweep<'a> {
    pub graph: &'a mut Graph,
    /// By value: whether the loss depends on it, and it on a wanted value.
    pub needed: Vec<bool>,
    /// By value: the node that computes it.
    pub producers: Vec<Option<usize>>,
    /// By node: the first later node that is on all its ways to the loss; the loss's own node has itself.
    joins: Vec<usize>,
    /// By parameter: the last node that changes it.
    changed: Vec<Option<usize>>,
    /// By value: uses whose terms are outstanding.
    outstanding: Vec<usize>,
    /// By value: the terms so far.
    terms: Vec<Vec<Term>>,
    /// By value: the sum of all terms; `None` before they are all there, and if there is none.
    gradients: Vec<Option<Gradient>>,
}

impl<'a> Sweep<'a> {
    pub fn new(graph: &'a mut Graph, loss: ValueId, wanted: &[ValueId]) -> Self {
        let (values, nodes) = (graph.values.len(), &graph.nodes);
        let mut influences = vec![false; values];
        influences[loss.0] = true;
        for node in nodes.iter().rev() {
            // Integers have no derivative: positions, labels.
            let floats = |id: &&ValueId| graph.at(**id).dtype == DType::F32;
            if node.outputs.iter().filter(floats).any(|id| influences[id.0]) {
                node.inputs.iter().for_each(|id| influences[id.0] = true);
            }
        }
        let mut depends = vec![false; values];
        wanted.iter().for_each(|id| depends[id.0] = true);
        let mut producers = vec![None; values];
        let mut changed = vec![None; graph.parameters.len()];
        for (at, node) in nodes.iter().enumerate() {
            let any = node.inputs.iter().any(|id| depends[id.0]);
            for id in &node.outputs {
                producers[id.0] = Some(at);
                depends[id.0] |= any && graph.at(*id).dtype == DType::F32;
            }
            match &node.op {
                Op::Update(_, targets) => targets.iter().for_each(|t| changed[t.parameter.0] = Some(at)),
                Op::UpdateStatistics(_, targets) => targets.iter().for_each(|t| changed[t.0] = Some(at)),
                _ => {}
            }
        }
        let needed: Vec<_> = influences.iter().zip(depends).map(|(i, d)| *i && d).collect();
        // By value: the nodes that use it on the way from a wanted value to the loss, once for each operand.
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); values];
        let mut joins: Vec<_> = (0..nodes.len()).collect();
        for (at, node) in nodes.iter().enumerate().rev() {
            if !node.outputs.iter().any(|id| needed[id.0]) {
                continue;
            }
            let after = node.outputs.iter().flat_map(|id| users[id.0].iter().copied());
            joins[at] = after.reduce(|a, b| join(&joins, a, b)).unwrap_or(at);
            node.inputs.iter().filter(|id| needed[id.0]).for_each(|id| users[id.0].push(at));
        }
        Sweep {
            outstanding: users.iter().map(Vec::len).collect(),
            terms: vec![Vec::new(); values],
            gradients: vec![None; values],
            graph,
            needed,
            producers,
            joins,
            changed,
        }
    }

    /// Goes from the loss to the wanted values, depth first: of two branches that join, the first operand's comes first, down to
    /// where both began.
    pub fn run(&mut self, loss: ValueId, wanted: &[ValueId]) -> Result<Vec<ValueId>> {
        if self.needed[loss.0] {
            let mean = Gradient::Mean { factor: 1.0, weights: None };
            self.terms[loss.0].push(Term { of: (self.graph.nodes.len(), 0), gradient: mean });
        }
        let mut done = vec![false; self.graph.nodes.len()];
        self.sum(loss)?;
        // Values whose gradients are known, the next one last.
        let mut known = vec![loss];
        while let Some(value) = known.pop() {
            let Some(at) = self.producers[value.0] else { continue };
            let ready = self.graph.nodes[at].outputs.iter().all(|id| self.outstanding[id.0] == 0);
            if !ready || std::mem::replace(&mut done[at], true) {
                continue;
            }
            self.pass(at)?;
            let mut complete = Vec::new();
            for id in self.graph.nodes[at].inputs.clone() {
                if self.needed[id.0] {
                    self.outstanding[id.0] -= 1;
                    if self.outstanding[id.0] == 0 {
                        self.sum(id)?;
                        complete.push(id);
                    }
                }
            }
            known.extend(complete.into_iter().rev());
        }
        let mut found = Vec::with_capacity(wanted.len());
        for &value in wanted {
            let Some(gradient) = self.gradients[value.0] else {
                let name = |id: ValueId| self.graph.at(id).name.clone();
                return Err(Error::NoGradient { value: name(value), loss: name(loss) });
            };
            let gradient = self.computed(value, gradient)?;
            self.gradients[value.0] = Some(Gradient::Computed(gradient));
            found.push(gradient);
        }
        Ok(found)
    }

    /// Passes the gradient of a node's result on to its operands.
    fn pass(&mut self, at: usize) -> Result<()> {
        let node = self.graph.nodes[at].clone();
        // No operation has two results of floats that gradients pass through.
        let Some(dy) = node.outputs.iter().find_map(|id| self.gradients[id.0]) else { return Ok(()) };
        for id in &node.inputs {
            if let Role::Parameter(parameter) = self.graph.at(*id).role
                && self.changed[parameter.0].is_some_and(|change| change > at)
            {
                let path = &self.graph.parameters[parameter.0].path;
                let got = format!("{path} updated before");
                return Err(Error::argument(&node.label, "gradients before updates of its operands", got));
            }
        }
        Adjoint { sweep: self, node: &node, at }.pass(dy)
    }

    /// Adds a term to the gradient of a node's operand, if that is needed.
    pub fn term(&mut self, at: usize, operand: usize, gradient: Gradient) {
        let value = self.graph.nodes[at].inputs[operand];
        if self.needed[value.0] {
            self.terms[value.0].push(Term { of: (at, operand), gradient });
        }
    }

    /// Adds up the terms of a value, in the order of its uses.
    fn sum(&mut self, value: ValueId) -> Result<()> {
        let mut terms = std::mem::take(&mut self.terms[value.0]);
        terms.sort_by_key(|term| term.of);
        let mut sum: Option<(Gradient, usize)> = None;
        for Term { of: (user, _), gradient } in terms {
            sum = Some(match (sum, gradient) {
                (None, term) => (term, user),
                (
                    Some((Gradient::Mean { factor, weights }, at)),
                    Gradient::Mean { factor: more, weights: same },
                ) if weights == same => {
                    (Gradient::Mean { factor: factor + more, weights }, join(&self.joins, at, user))
                }
                (Some((sum, at)), term) => {
                    let both = [self.computed(value, sum)?, self.computed(value, term)?];
                    let at = join(&self.joins, at, user);
                    let label = self.sum_label(value, at);
                    (Gradient::Computed(self.graph.push_one(Op::Add, &both, &label)?), at)
                }
            });
        }
        self.gradients[value.0] = sum.map(|(gradient, _)| gradient);
        Ok(())
    }

    /// Names a sum of gradients by the parameter, or by the operation where what was computed from the value meets again.
    fn sum_label(&self, value: ValueId, join: usize) -> String {
        let info = self.graph.at(value);
        match info.role {
            Role::Parameter(_) => format!("{} grad", info.name),
            _ => format!("{} grad_input", self.graph.nodes[join].label),
        }
    }

    /// A gradient as a value of the graph.
    pub fn computed(&mut self, value: ValueId, gradient: Gradient) -> Result<ValueId> {
        let name = self.graph.at(value).name.clone();
        match gradient {
            Gradient::Computed(id) => Ok(id),
            Gradient::Mean { weights: Some(_), .. } => Err(Error::NoAdjoint {
                label: name,
                op: Op::Metrics.name(),
                why: "a mean weighted by classes has a gradient in a cross-entropy of the same weights alone",
            }),
            Gradient::Mean { factor, weights: None } => {
                let label = format!("{name} grad");
                let mean = self.graph.push_one(Op::MeanGrad, &[value], &label)?;
                self.scaled(mean, factor, &label)
            }
        }
    }

    /// Appends the product of a value and a constant, unless that is 1.
    pub fn scaled(&mut self, value: ValueId, factor: f64, label: &str) -> Result<ValueId> {
        if factor == 1.0 { Ok(value) } else { self.graph.push_one(Op::Scale(factor), &[value], label) }
    }
}

/// The first node on all ways from both `a` and `b` to the loss. Users come later than what they use.
fn join(joins: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        let earlier = if a < b { &mut a } else { &mut b };
        // Two ways to the loss meet at its node at the latest.
        if joins[*earlier] == *earlier {
            return a.max(b);
        }
        *earlier = joins[*earlier];
    }
    a
}
