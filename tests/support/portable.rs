//! What naga accepts and other compilers do not, or take to mean something else: found in its modules and in the HLSL that it
//! writes.

use super::uniformity;
use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{
    AddressSpace, Expression, Function, GatherMode, Handle, Literal, Module, ScalarKind, Statement, TypeInner,
};
use std::collections::BTreeSet;

/// One line for each fault of a shader.
pub fn faults(module: &Module, info: &ModuleInfo) -> Vec<String> {
    let mut found = uniformity::violations(module);
    let synchronizes = functions(module).any(|(_, f)| has_barrier(&f.body));
    for (handle, function) in functions(module) {
        let name = function.name.as_deref().unwrap_or("main");
        let (function_info, is_entry) = match handle {
            Some(handle) => (&info[handle], false),
            None => (info.get_entry_point(0), true),
        };
        let mut say = |what: String| found.push(format!("{name}: {what}"));
        variable_components(module, function, function_info).into_iter().for_each(&mut say);
        non_finite_constants(module, function).into_iter().for_each(&mut say);
        quad_lanes(function, &function.body).into_iter().for_each(&mut say);
        if synchronizes && !is_entry && !returns_once(function) {
            say("returns early in a shader with barriers: FXC takes what it gives as varying".into());
        }
    }
    found
}

/// Functions and types that a text defines twice; `None` if it has none.
pub fn defined_twice(hlsl: &str) -> Option<String> {
    let mut seen = BTreeSet::new();
    let is_definition = |line: &&str| {
        !line.starts_with([' ', '\t', '}', '{', '[', '#', '/']) && !line.ends_with(';') && line.contains('(')
            || line.starts_with("typedef ")
            || line.starts_with("struct ")
    };
    hlsl.lines().filter(is_definition).find(|line| !seen.insert(*line)).map(str::to_owned)
}

fn functions(module: &Module) -> impl Iterator<Item = (Option<Handle<Function>>, &Function)> {
    let entries = module.entry_points.iter().map(|entry| (None, &entry.function));
    module.functions.iter().map(|(handle, function)| (Some(handle), function)).chain(entries)
}

/// The blocks inside of a statement.
fn blocks(statement: &Statement) -> Vec<&naga::Block> {
    match statement {
        Statement::Block(block) => vec![block],
        Statement::If { accept, reject, .. } => vec![accept, reject],
        Statement::Switch { cases, .. } => cases.iter().map(|case| &case.body).collect(),
        Statement::Loop { body, continuing, .. } => vec![body, continuing],
        _ => Vec::new(),
    }
}

fn has_barrier(block: &naga::Block) -> bool {
    block.iter().any(|statement| {
        matches!(statement, Statement::ControlBarrier(_)) || blocks(statement).into_iter().any(has_barrier)
    })
}

/// Whether nothing follows any return. naga itself ends the branches of a last `if` with returns.
fn returns_once(function: &Function) -> bool {
    fn holds(block: &naga::Block, is_last: bool) -> bool {
        let count = block.len();
        block.iter().enumerate().all(|(number, statement)| {
            let is_last = is_last && number + 1 == count;
            let ends = !matches!(statement, Statement::Return { .. }) || is_last;
            let inside = is_last && !matches!(statement, Statement::Loop { .. });
            ends && blocks(statement).into_iter().all(|block| holds(block, inside))
        })
    }
    holds(&function.body, true)
}

/// A component of a float vector by a variable index: FXC makes a sum of products with 0 and 1 of it, in which NaN and
/// infinity of other components spread and -0.0 is lost. In buffers it is an address.
fn variable_components(module: &Module, function: &Function, info: &FunctionInfo) -> Vec<String> {
    let is_float_vector = |inner: &TypeInner| match *inner {
        TypeInner::Vector { scalar, .. } | TypeInner::Matrix { scalar, .. } => {
            scalar.kind == ScalarKind::Float
        }
        TypeInner::Pointer { base, space } if !in_buffer(space) => match module.types[base].inner {
            TypeInner::Vector { scalar, .. } | TypeInner::Matrix { scalar, .. } => {
                scalar.kind == ScalarKind::Float
            }
            _ => false,
        },
        TypeInner::ValuePointer { size: Some(_), scalar, space } => {
            scalar.kind == ScalarKind::Float && !in_buffer(space)
        }
        _ => false,
    };
    let accesses = function.expressions.iter().filter_map(|(_, e)| match *e {
        Expression::Access { base, .. } => Some(base),
        _ => None,
    });
    let wrong = accesses.filter(|&base| is_float_vector(info[base].ty.inner_with(&module.types)));
    wrong.map(|_| "a component of a float vector by a variable index".to_owned()).collect()
}

fn in_buffer(space: AddressSpace) -> bool {
    matches!(space, AddressSpace::Storage { .. } | AddressSpace::Uniform)
}

/// Constant expressions that are NaN or infinite. naga evaluates all but a change of type by bits.
fn non_finite_constants(module: &Module, function: &Function) -> Vec<String> {
    let mut found = Vec::new();
    for arena in [&function.expressions, &module.global_expressions] {
        for (_, expression) in arena.iter() {
            if let Expression::As { expr, kind: ScalarKind::Float, convert: None } = *expression {
                for bits in constant_bits(module, arena, expr) {
                    let value = f32::from_bits(bits);
                    if !value.is_finite() {
                        found.push(format!("a constant expression that is {value}"));
                    }
                }
            }
        }
    }
    found
}

/// The components of a constant expression of integers; none for all else.
fn constant_bits(module: &Module, arena: &naga::Arena<Expression>, handle: Handle<Expression>) -> Vec<u32> {
    match arena[handle] {
        Expression::Literal(Literal::U32(bits)) => vec![bits],
        Expression::Literal(Literal::I32(bits)) => vec![bits as u32],
        Expression::Splat { value, .. } => constant_bits(module, arena, value),
        Expression::Compose { ref components, .. } => {
            components.iter().flat_map(|&c| constant_bits(module, arena, c)).collect()
        }
        Expression::Constant(constant) => {
            let init = module.constants[constant].init;
            constant_bits(module, &module.global_expressions, init)
        }
        _ => Vec::new(),
    }
}

/// Lanes of a quad that are no constants below 4.
fn quad_lanes(function: &Function, block: &naga::Block) -> Vec<String> {
    let mut found = Vec::new();
    for statement in block.iter() {
        if let Statement::SubgroupGather { mode: GatherMode::QuadBroadcast(lane), .. } = *statement {
            let lane = &function.expressions[lane];
            if !matches!(lane, Expression::Literal(Literal::U32(0..4) | Literal::I32(0..4))) {
                found.push(format!("quadBroadcast of lane {lane:?}"));
            }
        }
        if let Statement::SubgroupGather { mode: GatherMode::Broadcast(lane), .. } = *statement {
            let lane = &function.expressions[lane];
            if !matches!(lane, Expression::Literal(_)) {
                found.push(format!("subgroupBroadcast of lane {lane:?}"));
            }
        }
        found.extend(blocks(statement).into_iter().flat_map(|block| quad_lanes(function, block)));
    }
    found
}
