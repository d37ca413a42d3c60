//! Residual joins.

use super::{Gradients, Layer, Mode, ParameterSpec, Sequence, Taped};
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, ValueId};

/// `main(x) + shortcut(x)` (He et al. 2015); a shortcut without layers is the identity. The parameters of the inner layers
/// have the join's name before their own: `block1.conv1.kernel`.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualLayer {
    main: Vec<(String, Layer)>,
    shortcut: Vec<(String, Layer)>,
}

impl ResidualLayer {
    /// Joins two branches.
    pub fn new(main: Vec<(String, Layer)>, shortcut: Vec<(String, Layer)>) -> Self {
        ResidualLayer { main, shortcut }
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.main.iter().chain(&self.shortcut).all(|(_, layer)| layer.is_fixed())
    }

    fn branches<'a>(&'a self, name: &'a str) -> [Sequence<'a>; 2] {
        [&self.main, &self.shortcut].map(|layers| Sequence { within: name, layers })
    }

    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        let [main, shortcut] = self.branches(name);
        let (main, shortcut) = (main.place(input)?.0, shortcut.place(input)?.0);
        if main != shortcut {
            let expected = format!("a shortcut of {main:?}, as the main branch");
            return Err(Error::shape(name, expected, format!("{shortcut:?}")));
        }
        Ok(main)
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        let mut all = Vec::new();
        for branch in self.branches(name) {
            all.extend(branch.place(input)?.1.into_iter().flatten());
        }
        Ok(all)
    }

    /// The sum, and the tapes of both branches.
    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<(ValueId, [Vec<Taped>; 2])> {
        let [main, shortcut] = self.branches(name);
        let (a, of_main) = main.forward(graph, x, parameters, mode)?;
        let used = of_main.iter().map(|tape| tape.parameters.len()).sum::<usize>();
        let (b, of_shortcut) = shortcut.forward(graph, x, &parameters[used..], mode)?;
        let sum = graph.push_one(Op::Add, &[a, b], name)?;
        Ok((sum, [of_main, of_shortcut]))
    }

    /// The gradient goes down both branches, and what arrives at the input is added.
    pub(super) fn backward(
        &self,
        graph: &mut Graph,
        name: &str,
        taped: &Taped,
        dy: ValueId,
        wanted: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<ValueId>> {
        let [main, shortcut] = self.branches(name);
        let a = main.backward(graph, &taped.branches[0], dy, wanted, gradients)?;
        let b = shortcut.backward(graph, &taped.branches[1], dy, wanted, gradients)?;
        match (a, b) {
            (Some(a), Some(b)) => graph.push_one(Op::Add, &[a, b], &format!("{name} grad_input")).map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn follow(&self, graph: &mut Graph, name: &str, taped: &Taped) -> Result<()> {
        let [main, shortcut] = self.branches(name);
        main.follow(graph, &taped.branches[0])?;
        shortcut.follow(graph, &taped.branches[1])
    }
}
