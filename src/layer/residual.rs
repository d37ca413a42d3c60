//! Residual joins.

use super::{Layer, Mode, ParameterSpec, Sequence};
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

    /// Appends both branches and their sum.
    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        let [main, shortcut] = self.branches(name);
        let of_main = main.place(super::example(graph, x))?.1.iter().map(Vec::len).sum::<usize>();
        let a = main.forward(graph, x, parameters, mode)?;
        let b = shortcut.forward(graph, x, &parameters[of_main..], mode)?;
        graph.push_one(Op::Add, &[a, b], name)
    }

    pub(super) fn update_statistics(&self, graph: &mut Graph, name: &str) -> Result<()> {
        self.branches(name).iter().try_for_each(|branch| branch.update_statistics(graph))
    }
}
