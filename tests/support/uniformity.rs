//! Implements WGSL's uniformity analysis for barriers and subgroup operations. Browsers reject a shader
//! unless the analysis proves that all invocations of a workgroup reach these operations together; naga does
//! not check this.
//!
//! Follows section 15.2 of the WGSL specification, but is insensitive to the order of statements: a variable
//! is uniform only if every value ever stored in it is. It therefore rejects every shader that a browser
//! rejects, and some more.

use naga::{
    AddressSpace, Arena, Block, BuiltIn, Expression, Function, Handle, LocalVariable, Module, Statement,
    StorageAccess,
};
use std::collections::HashMap;

/// Dependencies of a value, as a bit mask: bit i for argument i of the function, and [`VARYING`].
type Taint = u32;

/// Bit of a value that differs between the invocations of a workgroup.
const VARYING: Taint = 1 << 31;

/// Effects of a call to a function, in terms of the function's arguments.
#[derive(Clone, Default)]
struct Summary {
    /// Dependencies of the returned value.
    result: Taint,
    /// Dependencies of the values stored through each pointer argument.
    stored: Vec<Taint>,
    /// Arguments that must be uniform, because they decide whether a barrier or a subgroup operation is
    /// reached.
    required: Taint,
    /// Whether the function contains barriers or subgroup operations.
    synchronizes: bool,
}

/// Returns one line for each barrier or subgroup operation in non-uniform control flow.
pub fn violations(module: &Module) -> Vec<String> {
    let mut summaries: HashMap<Handle<Function>, Summary> = HashMap::new();
    let mut found = Vec::new();
    // naga orders callees before callers.
    for (handle, function) in module.functions.iter() {
        let mut analysis = Analysis::new(module, function, &summaries);
        let summary = analysis.run();
        found.append(&mut analysis.violations);
        summaries.insert(handle, summary);
    }
    for entry in &module.entry_points {
        let mut analysis = Analysis::new(module, &entry.function, &summaries);
        for (number, argument) in entry.function.arguments.iter().enumerate() {
            let uniform = matches!(
                argument.binding,
                Some(naga::Binding::BuiltIn(BuiltIn::WorkGroupId | BuiltIn::NumWorkGroups))
            );
            analysis.arguments[number] = if uniform { 0 } else { VARYING };
        }
        analysis.run();
        found.append(&mut analysis.violations);
    }
    found
}

struct Analysis<'a> {
    module: &'a Module,
    function: &'a Function,
    expressions: &'a Arena<Expression>,
    summaries: &'a HashMap<Handle<Function>, Summary>,
    arguments: Vec<Taint>,
    locals: HashMap<Handle<LocalVariable>, Taint>,
    /// Dependencies of the results of function calls.
    results: HashMap<Handle<Expression>, Taint>,
    /// For each loop or switch, identified by the address of its first block: dependencies of the conditions
    /// under which some invocations have left it.
    exited: HashMap<*const Block, Taint>,
    /// Loops and switches around the current statement, innermost last.
    scopes: Vec<*const Block>,
    /// Dependencies of the conditions under which some invocations have returned, so far in this pass.
    returned: Taint,
    summary: Summary,
    changed: bool,
    reporting: bool,
    violations: Vec<String>,
}

impl<'a> Analysis<'a> {
    fn new(
        module: &'a Module,
        function: &'a Function,
        summaries: &'a HashMap<Handle<Function>, Summary>,
    ) -> Self {
        let count = function.arguments.len();
        assert!(count < 31, "expected fewer than 31 arguments, one bit each");
        Analysis {
            module,
            function,
            expressions: &function.expressions,
            summaries,
            arguments: (0..count).map(|number| 1 << number).collect(),
            locals: HashMap::new(),
            results: HashMap::new(),
            exited: HashMap::new(),
            scopes: Vec::new(),
            returned: 0,
            summary: Summary { stored: vec![0; count], ..Summary::default() },
            changed: true,
            reporting: false,
            violations: Vec::new(),
        }
    }

    /// Iterates to the least fixed point, then runs one more pass that reports violations.
    fn run(&mut self) -> Summary {
        while std::mem::take(&mut self.changed) {
            self.pass();
        }
        self.reporting = true;
        self.pass();
        self.summary.clone()
    }

    fn pass(&mut self) {
        self.returned = 0;
        self.block(&self.function.body, 0);
    }

    fn taint(&self, handle: Handle<Expression>) -> Taint {
        let all = |list: &[Handle<Expression>]| list.iter().fold(0, |sum, &h| sum | self.taint(h));
        match self.expressions[handle] {
            Expression::Literal(_) | Expression::Constant(_) | Expression::Override(_) => 0,
            Expression::ZeroValue(_) => 0,
            Expression::Compose { ref components, .. } => all(components),
            Expression::Access { base, index } => all(&[base, index]),
            Expression::AccessIndex { base, .. } => self.taint(base),
            Expression::Splat { value, .. } => self.taint(value),
            Expression::Swizzle { vector, .. } => self.taint(vector),
            Expression::FunctionArgument(number) => {
                self.arguments[number as usize] | self.summary.stored[number as usize]
            }
            Expression::GlobalVariable(global) => match self.module.global_variables[global].space {
                AddressSpace::Uniform => 0,
                AddressSpace::Storage { access } if !access.contains(StorageAccess::STORE) => 0,
                _ => VARYING,
            },
            Expression::LocalVariable(local) => self.locals.get(&local).copied().unwrap_or(0),
            Expression::Load { pointer } => self.taint(pointer),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => self.taint(expr),
            Expression::Binary { left, right, .. } => all(&[left, right]),
            Expression::Select { condition, accept, reject } => all(&[condition, accept, reject]),
            Expression::Relational { argument, .. } => self.taint(argument),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                let rest = [arg1, arg2, arg3].into_iter().flatten();
                rest.fold(self.taint(arg), |sum, h| sum | self.taint(h))
            }
            Expression::ArrayLength(_) => 0,
            Expression::CallResult(_) => self.results.get(&handle).copied().unwrap_or(0),
            // Conservative: every other expression is varying.
            _ => VARYING,
        }
    }

    /// Records that a value with the dependencies `taint` is stored through a pointer.
    fn store(&mut self, pointer: Handle<Expression>, taint: Taint) {
        let old = match self.expressions[pointer] {
            Expression::Access { base, index } => return self.store(base, taint | self.taint(index)),
            Expression::AccessIndex { base, .. } => return self.store(base, taint),
            Expression::LocalVariable(local) => self.locals.entry(local).or_default(),
            Expression::FunctionArgument(number) => &mut self.summary.stored[number as usize],
            // Loads from writable globals are always varying, so stores to them need not be recorded.
            _ => return,
        };
        self.changed |= *old | taint != *old;
        *old |= taint;
    }

    /// Records a barrier or subgroup operation that is reached under conditions with the dependencies
    /// `control`.
    fn synchronize(&mut self, control: Taint, what: &str) {
        self.summary.synchronizes = true;
        self.summary.required |= control & !VARYING;
        if self.reporting && control & VARYING != 0 {
            let name = self.function.name.as_deref().unwrap_or("main");
            self.violations.push(format!("{name}: {what} in non-uniform control flow"));
        }
    }

    /// Records that some invocations leave the `count` innermost loops and switches.
    fn exit(&mut self, control: Taint, count: usize) {
        for scope in self.scopes.iter().rev().take(count) {
            let old = self.exited.entry(*scope).or_default();
            self.changed |= *old | control != *old;
            *old |= control;
        }
    }

    /// Returns the dependencies of the control flow at the current statement, including earlier exits and
    /// returns.
    fn current_control(&self, control: Taint) -> Taint {
        let exited = self.scopes.iter().filter_map(|scope| self.exited.get(scope));
        exited.fold(control | self.returned, |sum, exited| sum | exited)
    }

    fn block(&mut self, block: &Block, control: Taint) {
        for statement in block.iter() {
            let now = self.current_control(control);
            match *statement {
                Statement::Block(ref inner) => self.block(inner, control),
                Statement::If { condition, ref accept, ref reject } => {
                    let inside = control | self.taint(condition);
                    self.block(accept, inside);
                    self.block(reject, inside);
                }
                Statement::Switch { selector, ref cases } => {
                    let inside = control | self.taint(selector);
                    if let Some(first) = cases.first() {
                        self.scopes.push(&raw const first.body);
                        cases.iter().for_each(|case| self.block(&case.body, inside));
                        self.scopes.pop();
                    }
                }
                Statement::Loop { ref body, ref continuing, break_if } => {
                    self.scopes.push(&raw const *body);
                    self.block(body, control);
                    self.block(continuing, control);
                    if let Some(condition) = break_if {
                        let condition = self.taint(condition);
                        self.exit(self.current_control(control) | condition, 1);
                    }
                    self.scopes.pop();
                }
                Statement::Break | Statement::Continue => self.exit(now, 1),
                Statement::Return { value } => {
                    self.exit(now, self.scopes.len());
                    self.returned |= now;
                    if let Some(value) = value {
                        let result = self.summary.result | now | self.taint(value);
                        self.changed |= result != self.summary.result;
                        self.summary.result = result;
                    }
                }
                Statement::Store { pointer, value } => {
                    let taint = now | self.taint(value);
                    self.store(pointer, taint);
                }
                Statement::ControlBarrier(_) => self.synchronize(now, "a barrier"),
                Statement::SubgroupBallot { .. }
                | Statement::SubgroupGather { .. }
                | Statement::SubgroupCollectiveOperation { .. } => {
                    self.synchronize(now, "a subgroup operation");
                }
                Statement::Call { function, ref arguments, result } => {
                    self.call(function, arguments, result, now);
                }
                // The result of an atomic operation is varying, as every expression not listed in `taint`.
                Statement::Emit(_) | Statement::CooperativeStore { .. } | Statement::Atomic { .. } => {}
                ref other => panic!("expected only statements that the kernels use, got {other:?}"),
            }
        }
    }

    fn call(
        &mut self,
        function: Handle<Function>,
        arguments: &[Handle<Expression>],
        result: Option<Handle<Expression>>,
        control: Taint,
    ) {
        let summary = self.summaries[&function].clone();
        let argument_taints: Vec<Taint> = arguments.iter().map(|&a| self.taint(a)).collect();
        // Replaces the callee's argument bits by the dependencies of the actual arguments.
        let translate = |taint: Taint| {
            let of = |number: usize| if taint & (1 << number) != 0 { argument_taints[number] } else { 0 };
            (0..argument_taints.len()).fold(taint & VARYING, |sum, number| sum | of(number))
        };
        for (&argument, &stored) in arguments.iter().zip(&summary.stored) {
            if stored != 0 {
                self.store(argument, control | translate(stored));
            }
        }
        if let Some(result) = result {
            let old = self.results.entry(result).or_default();
            let new = translate(summary.result);
            self.changed |= *old | new != *old;
            *old |= new;
        }
        if summary.synchronizes {
            let name = self.module.functions[function].name.clone().unwrap_or_default();
            self.synchronize(control | translate(summary.required), &format!("{name}()"));
        }
    }
}
