//! WGSL preprocessing: unrolls the loops marked `// unroll` and expands type aliases.

use std::collections::HashMap;

/// Unrolls every loop `for (var i = 0u; i < BOUND; i++) { // unroll`: its body is repeated once for each
/// value of `i`, each time in its own block that begins with `const i = ..u;`. `BOUND` is a literal or one of
/// `constants`. Loops without the comment are kept.
pub(super) fn unroll(text: &str, constants: &[(&'static str, u32)]) -> String {
    let mut lines = text.lines();
    let mut out = String::with_capacity(4 * text.len());
    copy_block(&mut lines, constants, &mut out);
    out
}

/// Copies lines up to the closing brace of the current block, without that brace, and unrolls marked loops.
fn copy_block<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
    constants: &[(&'static str, u32)],
    out: &mut String,
) {
    let mut depth = 0i32;
    while let Some(line) = lines.next() {
        if let Some((variable, count)) = marked_loop(line, constants) {
            let mut body = String::new();
            copy_block(lines, constants, &mut body);
            for value in 0..count {
                out.push_str(&format!("{{ const {variable} = {value}u;\n{body}}}\n"));
            }
            continue;
        }
        let code = line.split("//").next().unwrap_or(line);
        depth += code.matches('{').count() as i32 - code.matches('}').count() as i32;
        if depth < 0 {
            return;
        }
        out.push_str(line);
        out.push('\n');
    }
}

/// Variable and number of iterations of a marked loop.
fn marked_loop<'a>(line: &'a str, constants: &[(&'static str, u32)]) -> Option<(&'a str, u32)> {
    let head = line.trim().strip_suffix("{ // unroll")?.trim_end().strip_prefix("for (var ")?;
    let (variable, rest) = head.split_once(" = 0u; ")?;
    let bound = rest.split_once("< ")?.1.split_once(';')?.0;
    let constant = constants.iter().find(|(name, _)| *name == bound).map(|(_, value)| *value);
    let count = constant.or_else(|| bound.strip_suffix('u')?.parse().ok())?;
    Some((variable, count))
}

/// Replaces each `alias NAME = TYPE;` by its type wherever it is used. naga treats an aliased array as a
/// different type than the same array without a name; its HLSL writer then defines the constructors of that
/// array twice, which DX12's compilers reject.
pub(super) fn expand_aliases(text: &str) -> String {
    let declared = |line: &str| {
        let (name, ty) = line.strip_prefix("alias ")?.trim_end().strip_suffix(';')?.split_once(" = ")?;
        Some((name.to_owned(), ty.to_owned()))
    };
    let mut aliases: HashMap<String, String> = text.lines().filter_map(declared).collect();
    // Aliases may be nested, at most as deep as there are aliases.
    for _ in 0..aliases.len() {
        let previous = aliases.clone();
        for ty in aliases.values_mut() {
            *ty = replace_words(ty, &previous);
        }
    }
    let mut out = String::with_capacity(2 * text.len());
    for line in text.lines().filter(|line| declared(line).is_none()) {
        let code = line.split("//").next().unwrap_or(line);
        out.push_str(&replace_words(code, &aliases));
        out.push_str(&line[code.len()..]);
        out.push('\n');
    }
    out
}

/// Replaces whole identifiers, except struct members (`.name`).
fn replace_words(code: &str, words: &HashMap<String, String>) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut rest) = (String::with_capacity(code.len()), code);
    while let Some(begin) = rest.find(is_word) {
        let (before, from) = rest.split_at(begin);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        out.push_str(before);
        let replacement = words.get(word).filter(|_| !out.ends_with('.'));
        out.push_str(replacement.map_or(word, String::as_str));
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_loops_are_unrolled_and_others_kept() {
        let text = "\
fn f() {
    for (var k = 0u; k < p.k; k++) {
        for (var i = 0u; i < N; i++) { // unroll
            for (var j = 0u; j < 2u; j++) { // unroll
                x[i][j] = k;
            }
        }
    }
}
";
        let out = unroll(text, &[("N", 3)]);
        assert_eq!(out.matches("x[i][j] = k;").count(), 6);
        assert_eq!(out.matches("const i = ").count(), 3);
        assert_eq!(out.matches("const j = 1u;").count(), 3);
        assert!(out.contains("for (var k = 0u; k < p.k; k++) {"));
        assert_eq!(out.matches('{').count(), out.matches('}').count());
    }

    #[test]
    fn a_loop_with_an_unknown_bound_is_kept() {
        let text = "for (var i = 0u; i < M; i++) { // unroll\n}\n";
        assert_eq!(unroll(text, &[]), text);
    }

    #[test]
    fn aliases_are_expanded_except_in_comments_and_members() {
        let text = "\
alias Row = array<vec4<f32>, N>;
alias Tile = array<Row, 4>;
// A Row of x.
fn f(rows: Tile, Rows: u32) { let a = Row(); s.Row = Tile(a, a, a, a); } // Tile
";
        let want = "\
// A Row of x.
fn f(rows: array<array<vec4<f32>, N>, 4>, Rows: u32) \
{ let a = array<vec4<f32>, N>(); s.Row = array<array<vec4<f32>, N>, 4>(a, a, a, a); } // Tile
";
        assert_eq!(expand_aliases(text), want);
    }
}
