//! Writes out the loops that a shader marks with `// unroll`.

/// Replaces every `for (var i = 0u; i < BOUND; i++) { // unroll` by its body, once for each value of `i`, in a block of
/// its own that begins with `const i = ..u;`. `BOUND` is a number or one of `constants`. The text stays plain WGSL, so
/// that a loop can be kept by leaving the mark out.
pub(super) fn unroll(text: &str, constants: &[(&'static str, u32)]) -> String {
    let mut lines = text.lines();
    let mut out = String::with_capacity(4 * text.len());
    block(&mut lines, constants, &mut out);
    out
}

/// Copies lines up to the one that closes the block, which is left out.
fn block<'a>(lines: &mut impl Iterator<Item = &'a str>, constants: &[(&'static str, u32)], out: &mut String) {
    let mut depth = 0i32;
    while let Some(line) = lines.next() {
        if let Some((variable, count)) = marked(line, constants) {
            let mut body = String::new();
            block(lines, constants, &mut body);
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

/// The variable and the number of rounds of a marked loop.
fn marked<'a>(line: &'a str, constants: &[(&'static str, u32)]) -> Option<(&'a str, u32)> {
    let head = line.trim().strip_suffix("{ // unroll")?.trim_end().strip_prefix("for (var ")?;
    let (variable, rest) = head.split_once(" = 0u; ")?;
    let bound = rest.split_once("< ")?.1.split_once(';')?.0;
    let known = constants.iter().find(|(name, _)| *name == bound).map(|(_, value)| *value);
    let count = known.or_else(|| bound.strip_suffix('u')?.parse().ok())?;
    Some((variable, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_loops_are_written_out_and_others_kept() {
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
    fn a_bound_that_is_not_known_is_left_alone() {
        let text = "for (var i = 0u; i < M; i++) { // unroll\n}\n";
        assert_eq!(unroll(text, &[]), text);
    }
}
