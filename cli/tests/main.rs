//! Integration tests of the program `frazil`; each runs it as a process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench_command;
mod check;
mod command_line;
mod command_line_masks;
mod data_sets;
mod draw;
mod faults;
mod guide;
mod hostile_files;
mod images;
mod interrupts;
#[cfg(feature = "mpi")]
mod mpi;
mod networks;
mod program;
mod runs;
