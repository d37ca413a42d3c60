//! Ctrl-C and requests to terminate.

use super::output::message;
use super::{Failure, report};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Whether the user, or the system with SIGTERM or SIGHUP, has asked the program to stop.
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    ending: Arc<AtomicBool>,
}

impl Interrupt {
    /// Handles such requests from now on. If the command `saves`, the first one only sets a flag, which the
    /// command checks after each step. Any other request ends the program with exit code 130.
    pub fn handle(saves: bool, json: bool) -> Self {
        let interrupt = Interrupt { requested: Arc::default(), ending: Arc::default() };
        let (flag, ending) = (Arc::clone(&interrupt.requested), Arc::clone(&interrupt.ending));
        let handler = move || {
            if saves && !flag.swap(true, Ordering::SeqCst) {
                if !ending.load(Ordering::SeqCst) {
                    message(
                        "frazil: interrupted: finishing this step, then saving; interrupt again to stop at once",
                    );
                }
            } else {
                stop(json);
            }
        };
        if let Err(error) = ctrlc::set_handler(handler) {
            message(format_args!("warning: an interrupt ends the program without saving: {error}"));
        }
        interrupt
    }

    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// From now on, a first request is only noted: the command is over, and MPI's launcher asks all processes to end as
    /// soon as one has failed.
    pub fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }
}

/// Ends the program at once.
fn stop(json: bool) {
    // Reported by another thread, because another one may hold the lock of standard output while its reader
    // reads nothing.
    let (done, wait) = channel();
    std::thread::spawn(move || {
        report(&Failure::Interrupted("interrupted at once, without saving".to_owned()), json);
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(Duration::from_millis(500));
    std::process::exit(i32::from(super::INTERRUPTED));
}
