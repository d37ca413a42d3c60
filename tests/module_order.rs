//! Checks the dependencies between the modules of `src/`, and between the files of each module.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// Modules of `src/` by level, lowest level first. A module may import only modules of lower levels, so no
/// cycle of imports between modules can form.
const LEVELS: &[&[&str]] = &[
    &["error"],
    &["shape", "rng", "wgsl", "host_memory", "ranks", "stopwatch"],
    &["digest", "file", "floats"],
    &["tensor_file", "npy"],
    &["mask", "graph", "data", "gpu"],
    &["layer", "loss", "optimizer", "kernels"],
    &["model", "reference"],
    &["compiler"],
    &["engine"],
    &["checkpoint"],
    &["predictor", "trainer"],
    &["interop"],
    &["conformance"],
    &["low_level"],
];

/// Modules that may name wgpu: `gpu` and `engine`, which use the device, and the crate root (`lib`), which
/// re-exports the wgpu crate.
const WGPU: &[&str] = &["gpu", "engine", "lib"];

#[test]
fn modules_use_only_lower_levels() {
    let files = files(&["src"], &["rs"]);
    assert!(!files.is_empty());
    let found = violations(&files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Unsafe code is an exception that has a reason: one block, with a comment that gives it. A tool that is not
/// shipped, `benches/isa`, calls Vulkan; its blocks have such comments, too.
#[test]
fn unsafe_code_is_one_block_with_its_proof() {
    let sources = files(&["src", "cli/src", "cli/tests", "tests", "benches", "examples"], &["rs"]);
    let mut found = Vec::new();
    for (path, text) in &sources {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            // Written apart, so that this line is not found.
            let word = concat!("un", "safe");
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '"';
            if code.split(|c| !is_word(c)).any(|part| part == word) {
                let before = lines[..number].iter().rev().take_while(|line| line.trim().starts_with("//"));
                found.push((path.clone(), before.last().map_or("", |line| line.trim())));
            }
        }
    }
    let unproved: Vec<_> = found.iter().filter(|(_, proof)| !proof.starts_with("// SAFETY: ")).collect();
    assert!(unproved.is_empty(), "{unproved:?}");
    found.retain(|(path, _)| !path.starts_with("benches/isa/"));
    let [(path, _)] = found.as_slice() else { panic!("expected one block, got {found:?}") };
    assert!(path.ends_with("adapter.rs"), "{path}");
}

#[test]
fn files_of_a_module_do_not_import_each_other_in_a_cycle() {
    let found = cycles(&files(&["src"], &["rs"]));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_program_does_not_name_wgpu() {
    let files = files(&["cli/src"], &["rs"]);
    assert!(!files.is_empty());
    let found: Vec<_> = files.iter().flat_map(|(path, text)| wgpu_names(path, &code(text))).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Returns the path (with `/`, relative to the package) and the text of every file in `folders` that has one
/// of `extensions`.
fn files(folders: &[&str], extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<_> = folders.iter().map(|folder| root.join(folder)).filter(|f| f.exists()).collect();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if path.is_dir() {
                open.push(path);
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

/// The table of ARCHITECTURE.md lists every module with its level.
#[test]
fn architecture_lists_every_module_with_its_level() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let mut listed = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let mut columns = line.split('|').skip(1).map(str::trim);
        let (Some(level), Some(modules)) = (columns.next(), columns.next()) else { continue };
        if let Ok(level) = level.parse::<usize>() {
            listed.extend(modules.split(", ").map(|module| (level, module.trim_matches('`').to_owned())));
        }
    }
    let levels = LEVELS.iter().enumerate();
    let expected = levels.flat_map(|(level, modules)| modules.iter().map(move |&m| (level, m.to_owned())));
    assert_eq!(listed, expected.collect());
}

/// Returns one line for each violation of [`LEVELS`] or [`WGPU`] in the given `(path, text)` pairs of source
/// files.
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
        // The crate root (lib.rs) has no level: it only declares the modules and re-exports their names.
        if module == "lib" {
            continue;
        }
        let Some(own) = level(module) else {
            found.push(format!("{path}: the module `{module}` is not in LEVELS"));
            continue;
        };
        for (offset, name) in root_paths(inside, &code) {
            // `crate::Name` counts as a use of the module that defines `Name` if the crate root re-exports
            // it.
            let target = reexports.get(&name).unwrap_or(&name);
            match level(target) {
                _ if target == module => {}
                Some(below) if below < own => {}
                Some(_) => found.push(format!(
                    "{}: `{module}` uses `{target}`, which is not on a lower level",
                    location(offset)
                )),
                None => found.push(format!(
                    "{}: `{module}` uses `crate::{name}`, which is not in LEVELS",
                    location(offset)
                )),
            }
        }
    }
    found
}

/// Returns one line for each path or import of wgpu in a file that must not name wgpu.
fn wgpu_names(path: &str, code: &str) -> Vec<String> {
    let is_path = |offset: &usize| {
        code[offset + 4..].trim_start().starts_with("::") || code[..*offset].trim_end().ends_with("use")
    };
    let found = words(code, "wgpu").filter(is_path);
    found.map(|offset| format!("{}: only {WGPU:?} may name wgpu", location(path, code, offset))).collect()
}

/// Formats a byte offset in a file as `path:line`.
fn location(path: &str, code: &str, offset: usize) -> String {
    format!("{path}:{}", code[..offset].matches('\n').count() + 1)
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|modules| modules.contains(&module))
}

/// Removes the line comments of a source text. `//` after a colon, as in a URL, does not start a comment.
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

/// Returns the byte offsets at which `word` occurs as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(offset, _)| offset).filter(move |&offset| {
        !code[..offset].ends_with(is_word) && !code[offset + word.len()..].starts_with(is_word)
    })
}

/// Returns, with its byte offset, the first segment of every path that begins at the crate root: `a` for
/// `crate::a`, `a` and `b` for `crate::{a::X, b}`, and `a` for `super::a` if `super` is the crate root.
fn root_paths(inside: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for offset in words(code, "crate") {
        if let Some(rest) = code[offset + 5..].trim_start().strip_prefix("::") {
            found.extend(first_names(rest).into_iter().map(|name| (offset, name)));
        }
    }
    // A `use super::...` counts only at the start of a line: in an indented inline module, usually `mod
    // tests`, `super` is the file itself.
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

/// Returns the first segment of `a::b`, or of every branch of `{a::b, c}`. The segment of a glob import is
/// `*`.
fn first_names(rest: &str) -> Vec<String> {
    let mut names: Vec<_> = expand(rest).into_iter().filter_map(|path| path.into_iter().next()).collect();
    names.dedup();
    names
}

/// Returns the paths of a `use` tree: `a::b` and `a::c::*` for `a::{b, c::*}`. Ignores text after the tree.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let mut segments = Vec::new();
    let mut rest = tree.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            let paths = branches(group).into_iter().flat_map(expand);
            // `a::{self}` means `a`.
            let is_self = |path: &[String]| path == ["self"] && !segments.is_empty();
            let path = |path: Vec<String>| if is_self(&path) { Vec::new() } else { path };
            return paths.map(|rest| [segments.clone(), path(rest)].concat()).collect();
        }
        let end = if rest.starts_with('*') { 1 } else { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) };
        if end > 0 {
            segments.push(rest[..end].to_owned());
        }
        match rest[end..].trim_start().strip_prefix("::") {
            Some(after) if end > 0 => rest = after.trim_start(),
            _ => break,
        }
    }
    if segments.is_empty() { Vec::new() } else { vec![segments] }
}

/// Splits a group, given without its opening brace, at its top-level commas, up to its closing brace.
fn branches(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                parts.push(&group[start..index]);
                start = index + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    parts
}

/// Returns, for each name that the crate root re-exports with `pub use module::...`, the module that defines
/// it.
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

/// A source file of the crate, parsed into its imports, its re-exports and the rest of its code.
struct Module {
    /// Path of the file.
    file: String,
    /// Code without comments, unit tests and `use` declarations.
    body: String,
    /// Paths of `use` declarations that are not re-exports.
    imports: Vec<Vec<String>>,
    /// Paths of `pub use` declarations (re-exports).
    reexports: Vec<Vec<String>>,
}

/// Modules by their path from the crate root, such as `["mask", "rule"]`.
type Modules = BTreeMap<Vec<String>, Module>;

/// Parses the given `(path, text)` pairs of source files, except the crate root and files of unit tests.
fn modules(files: &[(String, String)]) -> Modules {
    let mut modules = Modules::new();
    for (file, text) in files {
        let inside = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs");
        let mut path: Vec<_> = inside.split('/').map(str::to_owned).collect();
        match path.last().map(String::as_str) {
            Some("lib" | "tests") => continue,
            Some("mod") => drop(path.pop()),
            _ => {}
        }
        let code = code(text);
        // Ignores unit tests: `mod tests` is always the last item of a file.
        let tests = code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len());
        let mut body = String::new();
        let (mut imports, mut reexports) = (Vec::new(), Vec::new());
        let mut rest = 0;
        for offset in words(&code[..tests], "use") {
            let line_start = code[..offset].rfind('\n').map_or(0, |newline| newline + 1);
            let before = code[line_start..offset].trim();
            if !before.is_empty() && !before.starts_with("pub") {
                continue;
            }
            let end = code[offset..].find(';').map_or(code.len(), |length| offset + length);
            let paths = expand(&code[offset + 3..end]);
            if before.is_empty() {
                imports.extend(paths)
            } else {
                reexports.extend(paths)
            }
            body.push_str(&code[rest..line_start]);
            rest = end;
        }
        body.push_str(&code[rest..tests.max(rest)]);
        modules.insert(path, Module { file: file.clone(), body, imports, reexports });
    }
    modules
}

/// Returns the module that defines the item at `path`, as seen from the module `from`; `None` for other
/// crates. Resolves imports and re-exports on the path; `depth` is the number of those resolved so far, and
/// limits the recursion.
fn definition(modules: &Modules, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
    let mut module = from.to_vec();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => (module, rest) = (Vec::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        _ => {}
    }
    while rest.first().is_some_and(|segment| segment == "super") {
        module.pop();
        rest = &rest[1..];
    }
    let is_relative = rest.len() == path.len();
    while let Some(segment) = rest.first() {
        let child = [module.as_slice(), std::slice::from_ref(segment)].concat();
        let is_folder = modules.keys().any(|key| key.starts_with(&child));
        if is_folder {
            (module, rest) = (child, &rest[1..]);
            continue;
        }
        let names = modules.get(&module).map(|m| m.imports.iter().chain(&m.reexports));
        let binding = names.and_then(|mut all| all.find(|import| import.last() == Some(segment)));
        return match binding {
            Some(binding) if depth < 8 => {
                let target = [binding.as_slice(), &rest[1..]].concat();
                definition(modules, &module, &target, depth + 1)
            }
            _ => (!is_relative || module != from).then_some(module),
        };
    }
    Some(module)
}

/// Returns, for each file, the files of the same top-level module that it imports. Leaves out imports of a
/// `mod.rs` from its submodules, because submodules may use items of their `mod.rs`.
fn imports_within_modules(modules: &Modules) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut graph = BTreeMap::new();
    for (path, module) in modules {
        let mut used = module.imports.clone();
        // A re-export counts as an import only if the rest of the file uses the name.
        let reexports = module.reexports.iter();
        used.extend(reexports.filter(|p| words(&module.body, &p[p.len() - 1]).next().is_some()).cloned());
        let is_child = |key: &&Vec<String>| key.len() == path.len() + 1 && key.starts_with(path);
        let children = modules.keys().filter(is_child).map(|key| key[path.len()].as_str());
        for root in ["crate", "super", "self"].into_iter().chain(children) {
            for offset in words(&module.body, root) {
                let before = module.body[..offset].trim_end();
                let is_path = module.body[offset + root.len()..].trim_start().starts_with("::");
                // The path in a visibility such as `pub(in crate::a)` is not an import.
                if is_path && !before.ends_with("::") && !before.ends_with('.') && !before.ends_with("(in") {
                    used.extend(expand(&module.body[offset..]));
                }
            }
        }
        let definitions = used.iter().filter_map(|used| definition(modules, path, used, 0));
        let same_module = definitions.filter(|target| {
            let is_submodule = module.file.ends_with("/mod.rs") && target.starts_with(path);
            target != path && target.first() == path.first() && !is_submodule
        });
        let imported: BTreeSet<_> =
            same_module.filter_map(|target| modules.get(&target)).map(|m| m.file.as_str()).collect();
        graph.insert(module.file.as_str(), imported);
    }
    graph
}

/// Returns the shortest chain of imports from the file `from` to the file `to`, without `from` itself.
fn chain<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut open = VecDeque::from([vec![from]]);
    let mut reached = BTreeSet::new();
    while let Some(path) = open.pop_front() {
        for &next in graph.get(path[path.len() - 1]).into_iter().flatten() {
            let longer = [path.as_slice(), &[next]].concat();
            if next == to {
                return Some(longer[1..].to_vec());
            }
            if reached.insert(next) {
                open.push_back(longer);
            }
        }
    }
    None
}

/// Returns one line for each cycle of imports between files of the same top-level module.
fn cycles(files: &[(String, String)]) -> Vec<String> {
    let modules = modules(files);
    let graph = imports_within_modules(&modules);
    let mut found = Vec::new();
    let mut reported = BTreeSet::new();
    for &file in graph.keys() {
        if reported.contains(file) {
            continue;
        }
        if let Some(cycle) = chain(&graph, file, file) {
            found.push(format!("cycle of imports: {file} -> {}", cycle.join(" -> ")));
            reported.extend(cycle);
        }
    }
    found
}

mod checker {
    use super::*;

    /// Returns the violations of one file in a crate whose root re-exports `Error`, `Result` and `Trainer`.
    fn check(path: &str, text: &str) -> Vec<String> {
        let root = "pub mod error;\npub use error::{Error, Result};\npub use trainer::Trainer;\n";
        violations(&[("src/lib.rs".into(), root.into()), (path.into(), text.into())])
    }

    #[track_caller]
    fn one(path: &str, text: &str, part: &str) {
        let found = check(path, text);
        assert!(found.len() == 1 && found[0].contains(part), "expected one {part:?}, got {found:?}");
    }

    #[test]
    fn finds_imports_of_higher_levels() {
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
    fn finds_imports_of_the_same_level() {
        one("src/mask/mod.rs", "use crate::graph::Graph;", "`mask` uses `graph`");
        one("src/graph/mod.rs", "use crate::mask::Mask;", "`graph` uses `mask`");
        one("src/layer/conv.rs", "use crate::optimizer::Sgd;", "`layer` uses `optimizer`");
        one("src/shape.rs", "use crate::rng::Stream;", "`shape` uses `rng`");
    }

    #[test]
    fn finds_imports_through_the_root() {
        one("src/graph/mod.rs", "use crate::Trainer;", "`graph` uses `trainer`");
        one("src/graph/mod.rs", "use crate::*;", "`crate::*`");
        one("src/graph/mod.rs", "use crate::{self as root};", "`crate::self`");
        one("src/shape.rs", "use super::engine::Plan;", "src/shape.rs:1: `shape` uses `engine`");
        one("src/graph/op.rs", "\npub use super::super::{error::Error, model::Model};", "`model`");
        one("src/extra/mod.rs", "", "`extra` is not in LEVELS");
        one("src/graph/mod.rs", "use crate::extra::X;", "`crate::extra`");
    }

    #[test]
    fn finds_wgpu_in_other_modules() {
        one("src/model.rs", "fn f(d: &wgpu::Device) {}", "src/model.rs:1: only");
        one("src/trainer.rs", "use wgpu as w;", "may name wgpu");
        for path in ["src/gpu/mod.rs", "src/engine/mod.rs"] {
            assert_eq!(check(path, "use wgpu::Device;"), [""; 0]);
        }
        assert_eq!(wgpu_names("cli/src/main.rs", "\nuse frazil::wgpu::Device;").len(), 1);
        assert_eq!(check("src/model.rs", "let my_wgpu = 1; // wgpu::Device\nlet s = \"wgpu 30\";"), [""; 0]);
    }

    #[test]
    fn allows_lower_levels() {
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

    /// Returns the cycles of imports among these `(path, text)` pairs.
    fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        cycles(&files)
    }

    #[test]
    fn finds_import_cycles_between_files() {
        let two = [
            ("src/mask/mod.rs", "mod a;\nmod b;\npub use a::A;"),
            ("src/mask/a.rs", "use super::b::B;"),
            ("src/mask/b.rs", "fn f(a: &crate::mask::A) {}"),
        ];
        let line = "cycle of imports: src/mask/a.rs -> src/mask/b.rs -> src/mask/a.rs";
        assert_eq!(cycles_of(&two), [line]);
        let three = [
            ("src/gpu/mod.rs", "pub use self::b::Y;"),
            ("src/gpu/a.rs", "use super::{Y, c};"),
            ("src/gpu/b.rs", "use crate::gpu::c::d::{self, Z};"),
            ("src/gpu/c/mod.rs", "pub(super) mod d;\nuse d::Z;"),
            ("src/gpu/c/d.rs", "pub(in crate::gpu) fn f() { super::super::a::g() }"),
        ];
        let line = "cycle of imports: src/gpu/a.rs -> src/gpu/b.rs -> src/gpu/c/d.rs -> src/gpu/a.rs";
        assert_eq!(cycles_of(&three), [line]);
    }

    #[test]
    fn allows_mod_rs_to_use_its_submodules_and_tests_to_use_anything() {
        let files = [
            ("src/mask/mod.rs", "mod a;\nmod b;\npub struct Mask;\nfn f() { a::f(); b::f() }"),
            ("src/mask/a.rs", "use super::Mask;\nuse super::b::B; // super::c\n"),
            (
                "src/mask/b.rs",
                "use crate::mask::Mask;\n#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}",
            ),
            ("src/mask/tests.rs", "use super::a::A;"),
        ];
        assert_eq!(cycles_of(&files), [""; 0]);
    }
}
