//! Module dependencies: every module of `src/` uses only modules of lower levels, and only those that touch a
//! device name wgpu.

use std::collections::BTreeMap;
use std::path::Path;

/// The modules of `src/` by level, lowest first. A module may use modules of lower levels only, which rules
/// out cycles.
const LEVELS: &[&[&str]] = &[
    &["error"],
    &["shape", "rng", "wgsl"],
    &["mask", "graph", "data", "gpu"],
    &["layer", "loss", "optimizer", "kernels"],
    &["model", "reference"],
    &["compiler"],
    &["engine"],
    &["checkpoint"],
    &["trainer"],
    &["conformance"],
];

/// The modules that may name wgpu: those that touch a device, and the crate root, which re-exports it.
const WGPU: &[&str] = &["gpu", "engine", "lib"];

#[test]
fn modules_use_only_lower_levels() {
    let files = files(&["src"], &["rs"]);
    assert!(!files.is_empty());
    let found = violations(&files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn program_does_not_name_wgpu() {
    let files = files(&["cli/src"], &["rs"]);
    assert!(!files.is_empty());
    let found: Vec<_> = files.iter().flat_map(|(path, text)| wgpu_names(path, &code(text))).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Path (relative to the crate, with `/`) and text of all files in `folders` with one of the `extensions`,
/// recursively.
fn files(folders: &[&str], extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending: Vec<_> = folders.iter().map(|folder| root.join(folder)).filter(|f| f.exists()).collect();
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if path.is_dir() {
                pending.push(path);
            } else if extensions.contains(&extension) {
                let parts = path.strip_prefix(root).unwrap().components();
                let name: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).collect();
                found.push((name.join("/"), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The violations in files of `src/`, given as `(path, text)`; one line each.
fn violations(files: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    let root = files.iter().find(|(path, _)| path == "src/lib.rs");
    let reexports = root.map(|(_, text)| reexports(&code(text))).unwrap_or_default();
    for (path, text) in files {
        let inside = path.strip_prefix("src/").unwrap_or(path);
        let module = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let code = code(text);
        let location = |offset: usize| location(path, &code, offset);
        if !WGPU.contains(&module) {
            found.extend(wgpu_names(path, &code));
        }
        // The root has no level: it only declares modules and re-exports their names.
        if module == "lib" {
            continue;
        }
        let Some(own) = level(module) else {
            found.push(format!("{path}: the module `{module}` is not listed in LEVELS"));
            continue;
        };
        for (offset, name) in root_paths(inside, &code) {
            // A name that the root re-exports counts as its module's.
            let target = reexports.get(&name).unwrap_or(&name);
            match level(target) {
                _ if target == module => {}
                Some(below) if below < own => {}
                Some(_) => found.push(format!(
                    "{}: `{module}` uses `{target}`, which is not on a lower level",
                    location(offset)
                )),
                None => found.push(format!(
                    "{}: `{module}` uses `crate::{name}`, which is not listed in LEVELS",
                    location(offset)
                )),
            }
        }
    }
    found
}

/// The paths and imports of wgpu in a file, one line each.
fn wgpu_names(path: &str, code: &str) -> Vec<String> {
    let is_path = |offset: &usize| {
        code[offset + 4..].trim_start().starts_with("::") || code[..*offset].trim_end().ends_with("use")
    };
    let found = words(code, "wgpu").filter(is_path);
    found.map(|offset| format!("{}: only {WGPU:?} may name wgpu", location(path, code, offset))).collect()
}

/// `path:line` of an offset.
fn location(path: &str, code: &str, offset: usize) -> String {
    format!("{path}:{}", code[..offset].matches('\n').count() + 1)
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|modules| modules.contains(&module))
}

/// The text without line comments; the `//` of `://` does not begin one.
fn code(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
        kept.push_str(comment.map_or(line, |(at, _)| &line[..at]));
        kept.push('\n');
    }
    kept
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The offsets of `word` as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(offset, _)| offset).filter(move |&offset| {
        !code[..offset].ends_with(is_word) && !code[offset + word.len()..].starts_with(is_word)
    })
}

/// The names after the crate root in all paths, with the offset of the path: `a` of `crate::a`, `a` and `b`
/// of `crate::{a::X, b}`, and `a` of `super::a` if `super` is the root.
fn root_paths(inside: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for offset in words(code, "crate") {
        if let Some(rest) = code[offset + 5..].trim_start().strip_prefix("::") {
            found.extend(first_names(rest).into_iter().map(|name| (offset, name)));
        }
    }
    // Only at the top level of a file is the meaning of `super` certain; in blocks it is mostly `super::*` of
    // tests.
    let folders = inside.matches('/').count();
    let depth = if inside.ends_with("/mod.rs") { folders } else { folders + 1 };
    let to_root = "super::".repeat(depth);
    for start in ["use ", "pub use ", "pub(crate) use "] {
        let path = format!("{start}{to_root}");
        for (offset, _) in code.match_indices(&path) {
            let rest = &code[offset + path.len()..];
            let line_start = offset == 0 || code[..offset].ends_with('\n');
            if line_start && !rest.starts_with("super::") {
                found.extend(first_names(rest).into_iter().map(|name| (offset, name)));
            }
        }
    }
    found
}

/// The first name of `a::b`, or of every branch of `{a::b, c}`. A glob gives `*`, which is not a module.
fn first_names(rest: &str) -> Vec<String> {
    let name = |path: &str| {
        let path = path.trim_start();
        let end = path.find(|c| !is_word(c)).unwrap_or(path.len());
        if path.starts_with('*') { "*".to_owned() } else { path[..end].to_owned() }
    };
    let Some(tree) = rest.trim_start().strip_prefix('{') else {
        return vec![name(rest)];
    };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&tree[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty()); // trailing comma
    names
}

/// The module of each name that the root re-exports with `pub use module::...`.
fn reexports(root: &str) -> BTreeMap<String, String> {
    let mut modules = BTreeMap::new();
    for statement in root.split("pub use ").skip(1) {
        let path = statement.split(';').next().unwrap_or_default().trim_start_matches("crate::");
        let Some((module, names)) = path.split_once("::") else { continue };
        for name in names.split(|c| !is_word(c)).filter(|name| !name.is_empty()) {
            modules.insert(name.to_owned(), module.trim().to_owned());
        }
    }
    modules
}

mod checker {
    use super::*;

    /// The violations in one file, with a root that re-exports `Trainer` and `Error`.
    fn check(path: &str, text: &str) -> Vec<String> {
        let root = "pub mod error;\npub use error::{Error, Result};\npub use trainer::Trainer;\n";
        violations(&[("src/lib.rs".into(), root.into()), (path.into(), text.into())])
    }

    /// Checks that there is one violation and that it contains `part`.
    #[track_caller]
    fn one(path: &str, text: &str, part: &str) {
        let found = check(path, text);
        assert!(found.len() == 1 && found[0].contains(part), "expected one {part:?}, got {found:?}");
    }

    #[test]
    fn finds_planted_upward_imports() {
        one(
            "src/graph/op.rs",
            "use std::fmt;\n\nuse crate::engine::Plan;\n",
            "src/graph/op.rs:3: `graph` uses `engine`",
        );
        one("src/error.rs", "use crate::shape::Shape;", "`error` uses `shape`");
        one(
            "src/graph/mod.rs",
            "use crate::{\n    error::{Error, Result},\n    model::{Model, X},\n};",
            "`model`",
        );
        one("src/rng.rs", "fn f(x: &crate::trainer::State) {}", "`trainer`");
        one("src/mask/mod.rs", "use crate :: layer :: Layer;", "`layer`");
        one(
            "src/mask/rule.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::conformance::all;\n}",
            ":3: `mask` uses `conformance`",
        );
    }

    #[test]
    fn finds_imports_within_a_level() {
        one("src/mask/mod.rs", "use crate::graph::Graph;", "`mask` uses `graph`");
        one("src/graph/mod.rs", "use crate::mask::Mask;", "`graph` uses `mask`");
        one("src/layer/conv.rs", "use crate::optimizer::Sgd;", "`layer` uses `optimizer`");
        one("src/shape.rs", "use crate::rng::Stream;", "`shape` uses `rng`");
    }

    #[test]
    fn finds_reexports_globs_and_super_paths() {
        one("src/graph/mod.rs", "use crate::Trainer;", "`graph` uses `trainer`");
        one("src/graph/mod.rs", "use crate::*;", "`crate::*`");
        one("src/graph/mod.rs", "use crate::{self as root};", "`crate::self`");
        one("src/shape.rs", "use super::engine::Plan;", "src/shape.rs:1: `shape` uses `engine`");
        one("src/graph/op.rs", "\npub use super::super::{error::Error, model::Model};", "`model`");
        one("src/extra/mod.rs", "", "`extra` is not listed");
        one("src/graph/mod.rs", "use crate::extra::X;", "not listed in LEVELS");
    }

    #[test]
    fn finds_wgpu_outside_its_modules() {
        one("src/model.rs", "fn f(d: &wgpu::Device) {}", "src/model.rs:1: only");
        one("src/trainer.rs", "use wgpu as w;", "may name wgpu");
        for path in ["src/gpu/mod.rs", "src/engine/mod.rs"] {
            assert_eq!(check(path, "use wgpu::Device;"), [""; 0]);
        }
        assert_eq!(wgpu_names("cli/src/main.rs", "\nuse frazil::wgpu::Device;").len(), 1);
        assert_eq!(check("src/model.rs", "let my_wgpu = 1; // wgpu::Device\nlet s = \"wgpu 30\";"), [""; 0]);
    }

    #[test]
    fn allows_imports_from_lower_levels() {
        let allowed = [
            ("src/shape.rs", "use crate::error::Error;\nmod tests {\n    use super::*;\n}"),
            ("src/graph/op.rs", "use crate::{Error, Result, shape::{Shape, Window},};\nuse super::mask::X;"),
            ("src/graph/mod.rs", "//! See [`crate::engine::Plan`].\nlet x = 1; // not crate::engine\n"),
            ("src/layer/conv.rs", "use crate::graph::Op;\npub(crate) fn f(x: crate::layer::X) {}"),
            ("src/kernels/gemm.rs", "use crate::gpu::Gpu;"),
            ("src/engine/mod.rs", "use crate::{kernels, model, reference};\npub(in crate::engine) fn f() {}"),
            ("src/conformance/mod.rs", "use crate::trainer::Trainer;"),
        ];
        for (path, text) in allowed {
            assert_eq!(check(path, text), [""; 0], "{path}");
        }
    }
}
