//! The integration tests of the program `frazil`: each runs it as a process.

mod bench_command;
mod command_line;
mod command_line_masks;
mod program;
