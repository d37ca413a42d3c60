//! Detects shaders that naga accepts but other compilers reject or compile incorrectly, in naga's modules and
//! in the HLSL that naga writes.

use super::uniformity;
use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{
    AddressSpace, Expression, Function, GatherMode, Handle, Literal, Module, ScalarKind, Statement, TypeInner,
};
use std::collections::BTreeSet;

/// Returns the portability violations of a shader, one line each.
pub fn portability_violations(module: &Module, info: &ModuleInfo) -> Vec<String> {
    let mut found = uniformity::violations(module);
    let synchronizes = functions(module).any(|(_, f)| has_barrier(&f.body));
    for (handle, function) in functions(module) {
        let name = function.name.as_deref().unwrap_or("main");
        let (function_info, is_entry) = match handle {
            Some(handle) => (&info[handle], false),
            None => (info.get_entry_point(0), true),
        };
        let mut report = |violation: String| found.push(format!("{name}: {violation}"));
        variable_components(module, function, function_info).into_iter().for_each(&mut report);
        non_finite_constants(module, function).into_iter().for_each(&mut report);
        quad_lanes(function, &function.body).into_iter().for_each(&mut report);
        if synchronizes && !is_entry && !returns_once(function) {
            report("early return in a shader with barriers: FXC treats the result as varying".into());
        }
    }
    found
}

/// Returns the first function or type that an HLSL text defines twice; `None` if there is none.
pub fn duplicate_definition(hlsl: &str) -> Option<String> {
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

/// Returns the blocks that a statement directly contains.
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

/// Returns whether a function has no early return: every return is the last statement. The branches of a last
/// `if` may end with returns, because naga inserts these itself.
fn returns_once(function: &Function) -> bool {
    fn check(block: &naga::Block, is_last: bool) -> bool {
        let count = block.len();
        block.iter().enumerate().all(|(number, statement)| {
            let is_last = is_last && number + 1 == count;
            let valid = !matches!(statement, Statement::Return { .. }) || is_last;
            let inside = is_last && !matches!(statement, Statement::Loop { .. });
            valid && blocks(statement).into_iter().all(|block| check(block, inside))
        })
    }
    check(&function.body, true)
}

/// Finds accesses to a component of a float vector with a variable index. FXC compiles them to a dot product
/// with a one-hot vector, in which NaN and infinity propagate from other components and -0.0 is lost.
/// Accesses to buffers are safe, because there the index is an address.
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
    wrong.map(|_| "component of a float vector with a variable index".to_owned()).collect()
}

fn in_buffer(space: AddressSpace) -> bool {
    matches!(space, AddressSpace::Storage { .. } | AddressSpace::Uniform)
}

/// Finds constant expressions that are NaN or infinite, which WGSL forbids. Checks bitcasts only, because
/// naga evaluates all other constant expressions.
fn non_finite_constants(module: &Module, function: &Function) -> Vec<String> {
    let mut found = Vec::new();
    for arena in [&function.expressions, &module.global_expressions] {
        for (_, expression) in arena.iter() {
            if let Expression::As { expr, kind: ScalarKind::Float, convert: None } = *expression {
                for bits in constant_bits(module, arena, expr) {
                    let value = f32::from_bits(bits);
                    if !value.is_finite() {
                        found.push(format!("constant expression with value {value}"));
                    }
                }
            }
        }
    }
    found
}

/// Returns the components of a constant integer expression; empty for any other expression.
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

/// Finds subgroup broadcasts whose source lane is not a constant, and quad broadcasts whose source lane is
/// not a constant below 4.
fn quad_lanes(function: &Function, block: &naga::Block) -> Vec<String> {
    let mut found = Vec::new();
    for statement in block.iter() {
        if let Statement::SubgroupGather { mode: GatherMode::QuadBroadcast(lane), .. } = *statement {
            let lane = &function.expressions[lane];
            if !matches!(lane, Expression::Literal(Literal::U32(0..4) | Literal::I32(0..4))) {
                found.push(format!("quadBroadcast from lane {lane:?}, expected a constant below 4"));
            }
        }
        if let Statement::SubgroupGather { mode: GatherMode::Broadcast(lane), .. } = *statement {
            let lane = &function.expressions[lane];
            if !matches!(lane, Expression::Literal(_)) {
                found.push(format!("subgroupBroadcast from lane {lane:?}, expected a constant"));
            }
        }
        found.extend(blocks(statement).into_iter().flat_map(|block| quad_lanes(function, block)));
    }
    found
}
