//! Control flow and instruction mix of a driver's assembly listing.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Multiply-add of f32.
    Fma,
    /// Multiply-add of cooperative matrices.
    Matrix,
    /// Move between vector registers, or of a constant into one.
    Move,
    /// Other arithmetic of vectors at the full rate.
    Alu,
    /// Arithmetic of vectors at a quarter of the rate, such as 32-bit integer multiplication on RDNA.
    Quarter,
    /// Arithmetic, constants and addresses that all lanes share.
    Scalar,
    /// Access to workgroup memory.
    Shared,
    /// Access to buffers.
    Buffer,
    /// Access to private memory: spilled registers.
    Scratch,
    /// Branches, barriers, waits.
    Control,
}

/// All classes with their names in results.
pub const CLASSES: [(Class, &str); 10] = [
    (Class::Fma, "fma"),
    (Class::Matrix, "matrix"),
    (Class::Move, "move"),
    (Class::Alu, "alu"),
    (Class::Quarter, "quarter"),
    (Class::Scalar, "scalar"),
    (Class::Shared, "shared"),
    (Class::Buffer, "buffer"),
    (Class::Scratch, "scratch"),
    (Class::Control, "control"),
];

/// Number of instructions of each class.
pub type Mix = BTreeMap<Class, u64>;

/// Instruction set of a listing, with what limits its throughput.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// AMD RDNA, as printed by RADV. Limit: cycles of the vector ALU; loads, stores and scalar instructions
    /// of other waves issue at the same time.
    Rdna,
    /// NVIDIA, as printed by NVK. Limit: issue slots, one for each instruction.
    Nvidia,
}

impl Set {
    /// Cost of an instruction in the set's limiting resource.
    fn cost(self, class: Class) -> u64 {
        match (self, class) {
            (Set::Nvidia, _) | (Set::Rdna, Class::Fma | Class::Move | Class::Alu) => 1,
            (Set::Rdna, Class::Quarter) => 4,
            // 16 x 16 x 16 multiply-adds at the published rate of 128 per cycle and SIMD unit.
            (Set::Rdna, Class::Matrix) => 32,
            (Set::Rdna, _) => 0,
        }
    }

    /// Share of multiply-adds, of f32 or of matrices, in the cost of a mix; 0 if it costs nothing.
    pub fn multiply_add_share(self, mix: &Mix) -> f64 {
        let cost = |(&class, &count): (&Class, &u64)| self.cost(class) * count;
        let all: u64 = mix.iter().map(cost).sum();
        let useful = mix.iter().filter(|(class, _)| matches!(class, Class::Fma | Class::Matrix));
        useful.map(cost).sum::<u64>() as f64 / all.max(1) as f64
    }

    fn class(self, instruction: &str) -> Class {
        let operation = instruction.split_whitespace().next().unwrap_or("");
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| operation.starts_with(prefix));
        match self {
            // `v_fma_mix` converts between f32 and f16.
            Set::Rdna if starts(&["v_fma_mix"]) => Class::Alu,
            Set::Rdna if starts(&["v_fma", "v_dual_fma", "v_pk_fma"]) => Class::Fma,
            Set::Rdna if starts(&["v_wmma"]) => Class::Matrix,
            Set::Rdna if starts(&["v_mov", "v_dual_mov", "v_swap"]) => Class::Move,
            Set::Rdna
                if starts(&["v_mul_lo_u32", "v_mul_hi", "v_mad_u64", "v_mad_i64", "v_rcp", "v_rsq"])
                    || starts(&["v_sqrt", "v_exp", "v_log", "v_sin", "v_cos"]) =>
            {
                Class::Quarter
            }
            Set::Rdna if starts(&["v_"]) => Class::Alu,
            Set::Rdna if starts(&["ds_"]) => Class::Shared,
            Set::Rdna if starts(&["buffer_", "global_", "flat_"]) => Class::Buffer,
            Set::Rdna if starts(&["scratch_"]) => Class::Scratch,
            Set::Rdna
                if starts(&["s_branch", "s_cbranch", "s_barrier", "s_wait", "s_delay", "s_nop"])
                    || starts(&["s_clause", "s_endpgm", "s_set_inst", "s_sendmsg", "s_code_end"]) =>
            {
                Class::Control
            }
            Set::Rdna => Class::Scalar,
            Set::Nvidia => {
                let (target, operation) = match instruction.split_once(" = ") {
                    Some((target, operation)) => (target.trim(), operation.trim()),
                    None => ("", instruction),
                };
                let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| operation.starts_with(prefix));
                let memory = starts(&["ld.", "st.", "atom.", "ldsm", "red."]);
                if starts(&["ffma"]) {
                    Class::Fma
                } else if starts(&["hmma", "imma"]) {
                    Class::Matrix
                } else if starts(&["ldsm"]) || memory && operation.contains(".shared") {
                    Class::Shared
                } else if memory && operation.contains(".local") {
                    Class::Scratch
                } else if memory {
                    Class::Buffer
                } else if starts(&["bra", "bssy", "bsync", "bclear", "bar", "nop", "membar", "exit", "break"])
                    || starts(&["bmov", "warpsync", "yield", "kill"])
                {
                    Class::Control
                } else if target.starts_with("ur") || target.starts_with("up") {
                    Class::Scalar
                } else if starts(&["mov", "swap"]) {
                    Class::Move
                } else {
                    Class::Alu
                }
            }
        }
    }
}

#[derive(Default)]
struct Block {
    mix: Mix,
    successors: BTreeSet<usize>,
}

/// Basic blocks of a compiled shader.
pub struct Listing {
    set: Set,
    blocks: Vec<Block>,
}

impl Listing {
    /// Reads a listing.
    ///
    /// # Errors
    /// If it has no instructions, or a branch to an unknown label: the driver's format has changed.
    pub fn read(set: Set, text: &str) -> Result<Self, Box<dyn Error>> {
        let listing = match set {
            Set::Rdna => rdna(text)?,
            Set::Nvidia => nvidia(text)?,
        };
        if listing.iter().all(|block| block.mix.is_empty()) {
            return Err("the assembly has no instructions".into());
        }
        Ok(Listing { set, blocks: listing })
    }

    /// Mix of the whole shader, each instruction once.
    pub fn mix(&self) -> Mix {
        sum(self.blocks.iter().map(|block| &block.mix))
    }

    /// Mix of one iteration of the loop that contains the most multiply-adds, along its most expensive path;
    /// each instruction of an inner loop counts once. `None` without a loop that contains any.
    pub fn main_loop(&self) -> Option<Mix> {
        let all: BTreeSet<usize> = (0..self.blocks.len()).collect();
        let useful = |blocks: &BTreeSet<usize>| -> u64 {
            let mix = sum(blocks.iter().map(|&block| &self.blocks[block].mix));
            [Class::Fma, Class::Matrix].iter().filter_map(|class| mix.get(class)).sum()
        };
        let loops = self.components(&all, None).into_iter().filter(|part| self.is_loop(part));
        let body = loops.max_by_key(useful).filter(|body| useful(body) > 0)?;
        // The header is the block that is entered from outside.
        let entered = |block: &usize| {
            let outside = all.difference(&body);
            outside.into_iter().any(|&from| self.blocks[from].successors.contains(block))
        };
        let header = body.iter().copied().find(entered)?;
        // Without the branches back to the header, the remaining components are inner loops and single
        // blocks; `components` returns successors before their predecessors.
        let mut best: BTreeMap<usize, Mix> = BTreeMap::new();
        let mut last = Mix::new();
        for part in self.components(&body, Some(header)) {
            let next = part
                .iter()
                .flat_map(|&block| &self.blocks[block].successors)
                .filter(|&&to| to != header && !part.contains(&to))
                .filter_map(|to| best.get(to))
                .max_by_key(|mix| self.cost(mix));
            let own = part.iter().map(|&block| &self.blocks[block].mix);
            last = sum(own.chain(next));
            best.extend(part.iter().map(|&block| (block, last.clone())));
        }
        // The header precedes all blocks, so its component is the last one.
        Some(best.remove(&header).unwrap_or(last))
    }

    fn cost(&self, mix: &Mix) -> u64 {
        mix.iter().map(|(&class, &count)| self.set.cost(class) * count).sum()
    }

    fn is_loop(&self, part: &BTreeSet<usize>) -> bool {
        part.len() > 1 || part.iter().any(|&block| self.blocks[block].successors.contains(&block))
    }

    /// Strongly connected components of some of the blocks, without branches to `cut`; each component comes
    /// after those that it leads to (Tarjan's algorithm).
    fn components(&self, blocks: &BTreeSet<usize>, cut: Option<usize>) -> Vec<BTreeSet<usize>> {
        struct Search<'a> {
            listing: &'a Listing,
            blocks: &'a BTreeSet<usize>,
            cut: Option<usize>,
            order: BTreeMap<usize, usize>,
            lowest: BTreeMap<usize, usize>,
            stack: Vec<usize>,
            found: Vec<BTreeSet<usize>>,
        }
        impl Search<'_> {
            fn visit(&mut self, block: usize) {
                let number = self.order.len();
                self.order.insert(block, number);
                self.lowest.insert(block, number);
                self.stack.push(block);
                for &to in &self.listing.blocks[block].successors {
                    if !self.blocks.contains(&to) || self.cut == Some(to) {
                        continue;
                    }
                    if !self.order.contains_key(&to) {
                        self.visit(to);
                    }
                    if self.stack.contains(&to) {
                        let lowest = self.lowest[&block].min(self.lowest[&to]);
                        self.lowest.insert(block, lowest);
                    }
                }
                if self.lowest[&block] == number {
                    let mut part = BTreeSet::new();
                    while let Some(member) = self.stack.pop() {
                        part.insert(member);
                        if member == block {
                            break;
                        }
                    }
                    self.found.push(part);
                }
            }
        }
        let mut search = Search {
            listing: self,
            blocks,
            cut,
            order: BTreeMap::new(),
            lowest: BTreeMap::new(),
            stack: Vec::new(),
            found: Vec::new(),
        };
        for &block in blocks {
            if !search.order.contains_key(&block) {
                search.visit(block);
            }
        }
        search.found
    }
}

fn sum<'a>(mixes: impl IntoIterator<Item = &'a Mix>) -> Mix {
    let mut all = Mix::new();
    for (&class, &count) in mixes.into_iter().flatten() {
        *all.entry(class).or_default() += count;
    }
    all
}

/// Lines are `label:` or an instruction, with a comment after `;`. `::` joins two that issue together.
fn rdna(text: &str) -> Result<Vec<Block>, Box<dyn Error>> {
    let mut blocks = vec![Block::default()];
    let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
    let mut branches: Vec<(usize, &str)> = Vec::new();
    let mut falls_through = true;
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or("").trim();
        // `(then repeated 7 times)`, after the padding at the end.
        if line.starts_with('(') {
            continue;
        }
        let current = blocks.len() - 1;
        if let Some(label) = line.strip_suffix(':') {
            labels.insert(label, blocks.len());
            if falls_through {
                blocks[current].successors.insert(current + 1);
            }
            falls_through = true;
            blocks.push(Block::default());
            continue;
        }
        for part in line.split("::").map(str::trim).filter(|part| !part.is_empty()) {
            let known = ["v_", "s_", "ds_", "buffer_", "global_", "flat_", "scratch_"];
            if !known.iter().any(|prefix| part.starts_with(prefix)) {
                return Err(format!("the assembly has an unknown instruction: {part}").into());
            }
            *blocks[current].mix.entry(Set::Rdna.class(part)).or_default() += 1;
        }
        let mut words = line.split_whitespace();
        let operation = words.next().unwrap_or("");
        if operation.starts_with("s_branch") || operation.starts_with("s_cbranch") {
            branches.push((current, words.next().unwrap_or("")));
        }
        if operation == "s_branch" || operation == "s_endpgm" {
            falls_through = false;
        }
        // A conditional branch ends a block, even if no label follows.
        if operation.starts_with("s_cbranch") {
            blocks[current].successors.insert(current + 1);
            blocks.push(Block::default());
        }
    }
    for (from, label) in branches {
        let to = labels.get(label).ok_or_else(|| format!("the assembly has no label {label}"))?;
        blocks[from].successors.insert(*to);
    }
    // The last instruction may be a conditional branch.
    let count = blocks.len();
    blocks.iter_mut().for_each(|block| block.successors.retain(|&to| to < count));
    Ok(blocks)
}

/// Blocks are `block N LABEL [PREDECESSORS] -> {`, then an instruction per line with a comment after `//`,
/// then `} -> [SUCCESSORS]`.
fn nvidia(text: &str) -> Result<Vec<Block>, Box<dyn Error>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or("").trim();
        if line.starts_with("block") && line.ends_with('{') {
            blocks.push(Block::default());
            inside = true;
        } else if let Some(successors) = line.strip_prefix("} -> [") {
            let numbers = successors.trim_end_matches(']').split(',').map(str::trim);
            let numbers = numbers.filter(|number| !number.is_empty()).map(str::parse);
            if let Some(block) = blocks.last_mut() {
                block.successors = numbers.collect::<Result<_, _>>()?;
            }
            inside = false;
        } else if inside && !line.is_empty() && line != "}" {
            // A predicate, such as `@!p0`, precedes the instruction.
            let instruction = match line.strip_prefix('@') {
                Some(rest) => rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim()),
                None => line,
            };
            if let Some(block) = blocks.last_mut() {
                *block.mix.entry(Set::Nvidia.class(instruction)).or_default() += 1;
            }
        }
    }
    let count = blocks.len();
    if let Some(to) = blocks.iter().flat_map(|block| &block.successors).find(|&&to| to >= count) {
        return Err(format!("the assembly has no block {to}").into());
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop BB1..BB5 with two sides of an `if` and an inner loop that is entered in its middle.
    const RDNA: &str = "\
BB0:
\ts_mov_b32 s0, 0                ; be800080
\tv_mov_b32_e32 v0, 0
BB1:
\tv_fma_f32 v1, v2, v3, v1
\tds_store_b128 v0, v[4:7]
\ts_cbranch_scc0 BB3
BB2:
\tv_mul_lo_u32 v0, v1, v2
\ts_branch BB6
BB3:
\tv_fma_mixlo_f16 v1, v1, v1, v1
\ts_branch BB5
BB4:
\tv_mov_b32_e32 v9, v8
BB5:
\tv_min_u32_e32 v9, v8, v9
\ts_cbranch_scc0 BB4
BB6:
\tv_dual_fmac_f32 v1, v2, v3 :: v_dual_fmac_f32 v4, v5, v6
\ts_cbranch_scc1 BB1
BB7:
\tbuffer_store_b32 v1, v0, s[0:3], 0
\ts_endpgm
\ts_code_end
\t(then repeated 7 times)
";

    const NVIDIA: &str = "\
block.u 0 L2 [] -> {
      ur0      = mov 0x1                                           // delay=4
} -> [1]
block 1 L3 [0, 3] -> {
      r1       = ffma r2 r3 r1                                     // delay=1
                 st.shared.strong.cta.b128 [r69+rZ] r72..76        // delay=1 rd:0
@!p1             bra pT L4                                         // delay=1
} -> [2, 3]
block 2 L5 [1] -> {
@p3   r34      = ld.global.a64.constant.b32 [r34..36+rZ], p3       // delay=2 wr:0
      r35      = mov r34                                           // delay=1
} -> [3]
block 3 L4 [1, 2] -> {
      r36      = imnmx.u32 r35 0xf pT                              // delay=1
@p0              bra pT L3                                         // delay=1
} -> [1, 4]
block 4 L6 [3] -> {
                 st.local.b32 [r1+rZ] r2                           // delay=1
                 exit                                              // delay=1
} -> []
";

    fn mix(entries: &[(Class, u64)]) -> Mix {
        entries.iter().copied().collect()
    }

    #[test]
    fn the_main_loop_is_its_most_expensive_path_with_inner_loops_once() {
        let listing = Listing::read(Set::Rdna, RDNA).unwrap();
        // The side with the multiplication costs 4, the other 3 (one of them a move of the inner loop).
        let cheap = mix(&[(Class::Fma, 3), (Class::Quarter, 1), (Class::Shared, 1), (Class::Control, 3)]);
        assert_eq!(listing.main_loop(), Some(cheap.clone()));
        assert!((Set::Rdna.multiply_add_share(&cheap) - 3.0 / 7.0).abs() < 1e-9);
        let other = RDNA.replace("v_mul_lo_u32", "v_mul_f32");
        let expensive = mix(&[
            (Class::Fma, 3),
            (Class::Move, 1),
            (Class::Alu, 2),
            (Class::Shared, 1),
            (Class::Control, 4),
        ]);
        assert_eq!(Listing::read(Set::Rdna, &other).unwrap().main_loop(), Some(expensive));
        assert_eq!(listing.mix()[&Class::Buffer], 1);
        assert_eq!(listing.mix()[&Class::Fma], 3);
    }

    #[test]
    fn nvidia_counts_issue_slots() {
        let listing = Listing::read(Set::Nvidia, NVIDIA).unwrap();
        let main = listing.main_loop().unwrap();
        let want = mix(&[
            (Class::Fma, 1),
            (Class::Move, 1),
            (Class::Alu, 1),
            (Class::Shared, 1),
            (Class::Buffer, 1),
            (Class::Control, 2),
        ]);
        assert_eq!(main, want);
        assert!((Set::Nvidia.multiply_add_share(&main) - 1.0 / 7.0).abs() < 1e-9);
        assert_eq!(listing.mix()[&Class::Scratch], 1);
        assert_eq!(listing.mix()[&Class::Scalar], 1);
    }

    #[test]
    fn a_shader_without_multiply_adds_in_a_loop_has_no_main_loop() {
        let listing = Listing::read(Set::Rdna, "BB0:\n\tv_fma_f32 v1, v2, v3, v1\n\ts_endpgm\n").unwrap();
        assert_eq!(listing.main_loop(), None);
        let text = "BB0:\n\tv_mov_b32_e32 v1, 0\n\ts_cbranch_scc0 BB0\n\ts_endpgm\n";
        assert_eq!(Listing::read(Set::Rdna, text).unwrap().main_loop(), None);
    }

    #[test]
    fn an_unknown_format_is_an_error() {
        for text in ["", "nothing that looks like assembly: {", "block 0 L1 [] -> {\n} -> [7]\n"] {
            assert!(Listing::read(Set::Nvidia, text).is_err(), "{text}");
        }
        for text in ["", "BB0:\n\ts_branch BB9\n", "BB0:\n\tffma r1 r2 r3\n"] {
            assert!(Listing::read(Set::Rdna, text).is_err(), "{text}");
        }
    }
}
