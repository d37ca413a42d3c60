//! Writes types out in place of their aliases.

use std::collections::HashMap;

/// Replaces each `alias NAME = TYPE;` of a shader by its type wherever it is used. naga takes an aliased array for another
/// type than the same array without a name, and then its HLSL writer defines that array's constructors twice, which
/// DX12's compilers refuse.
pub(super) fn expand_aliases(text: &str) -> String {
    let declared = |line: &str| {
        let (name, ty) = line.strip_prefix("alias ")?.trim_end().strip_suffix(';')?.split_once(" = ")?;
        Some((name.to_owned(), ty.to_owned()))
    };
    let mut aliases: HashMap<String, String> = text.lines().filter_map(declared).collect();
    // An alias may be made of others, which are at most as many as there are.
    for _ in 0..aliases.len() {
        let known = aliases.clone();
        for ty in aliases.values_mut() {
            *ty = replace(ty, &known);
        }
    }
    let mut out = String::with_capacity(2 * text.len());
    for line in text.lines().filter(|line| declared(line).is_none()) {
        let code = line.split("//").next().unwrap_or(line);
        out.push_str(&replace(code, &aliases));
        out.push_str(&line[code.len()..]);
        out.push('\n');
    }
    out
}

/// Replaces whole words that are no members (`.name`).
fn replace(code: &str, words: &HashMap<String, String>) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut rest) = (String::with_capacity(code.len()), code);
    while let Some(begin) = rest.find(is_word) {
        let (before, from) = rest.split_at(begin);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        out.push_str(before);
        let known = words.get(word).filter(|_| !out.ends_with('.'));
        out.push_str(known.map_or(word, String::as_str));
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_written_out() {
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
