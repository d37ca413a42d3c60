//! Runs the cases, in a thread of this process or in a process of their own.

use super::lines::{AdapterLine, CaseLine, Line, RunLine, SCHEMA};
use super::{CheckArgs, Planted};
use frazil::conformance::{Suite, float_facts, plant};
use frazil::low_level::GemmFamily;
use frazil::{Error, Gpu, GpuOptions, Result};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// What runs the cases, and what it says.
pub struct Worker {
    /// Lines, then an error if the work could not go on.
    pub events: Receiver<Result<Line>>,
    child: Option<Child>,
}

impl Worker {
    /// Starts a thread. It cannot be stopped; the caller ends the process instead.
    pub fn thread(args: &CheckArgs) -> Result<Self> {
        let (suite, options, planted) = (args.suite(), args.options(), args.plant.clone());
        let selection = args.selection();
        // Without a buffer: a case begins after the lines before it have been received, so that a crash loses none.
        let (sender, events) = sync_channel(0);
        let work = move || {
            // A closed channel means that the receiver has ended: there is nothing to report.
            let tell = |line| sender.send(Ok(line)).map_err(|_| closed());
            if let Err(error) = work(&suite, &selection, options, planted.as_ref(), tell) {
                let _ = sender.send(Err(error));
            }
        };
        let started = std::thread::Builder::new().name("cases".to_owned()).spawn(work);
        started.map_err(|source| Error::Io { path: "a thread".into(), source })?;
        Ok(Worker { events, child: None })
    }

    /// Starts this program as a process that runs the cases after a position.
    pub fn process(after: Option<[usize; 2]>) -> Result<Self> {
        let io = |source| Error::Io { path: "the worker process".into(), source };
        let mut command = Command::new(std::env::current_exe().map_err(io)?);
        command.args(arguments()).arg("--worker");
        if let Some([case, variant]) = after {
            command.args(["--after".to_owned(), format!("{case},{variant}")]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(io)?;
        let (sender, events) = sync_channel(0);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || read(BufReader::new(stdout), &sender));
        }
        Ok(Worker { events, child: Some(child) })
    }

    pub fn is_process(&self) -> bool {
        self.child.is_some()
    }

    /// Ends the process, and says how it ended.
    pub fn stop(&mut self) -> String {
        let Some(child) = &mut self.child else { return String::new() };
        // It may have ended already.
        let _ = child.kill();
        child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    /// Waits for the process to end, and says how.
    pub fn ended(&mut self) -> String {
        let Some(child) = &mut self.child else { return "its thread ended".to_owned() };
        child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

/// The arguments with which this program can be started again: those of this process. On Linux as the kernel has them: if a
/// dynamic loader was started with the program as an argument, the program of this process is the loader, and `args_os`
/// lacks the loader's arguments.
fn arguments() -> Vec<OsString> {
    #[cfg(target_os = "linux")]
    if let Ok(line) = std::fs::read("/proc/self/cmdline")
        && let Some(words) = line.strip_suffix(b"\0")
    {
        use std::os::unix::ffi::OsStringExt;
        return words
            .split(|&byte| byte == 0)
            .skip(1)
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect();
    }
    std::env::args_os().skip(1).collect()
}

/// Reads the lines of a worker process. Other output, such as a line that a crash cut off, is ignored.
fn read(stdout: impl BufRead, sender: &SyncSender<Result<Line>>) {
    for text in stdout.split(b'\n') {
        let Ok(text) = text else { return };
        if let Ok(line) = serde_json::from_slice(&text)
            && sender.send(Ok(line)).is_err()
        {
            return;
        }
    }
}

fn closed() -> Error {
    Error::Io { path: "the results".into(), source: std::io::ErrorKind::BrokenPipe.into() }
}

/// Runs the suite and tells each line as soon as it is known: the adapter, then each run as it begins and its result.
pub fn work(
    suite: &Suite,
    selection: &str,
    options: GpuOptions,
    planted: Option<&Planted>,
    mut tell: impl FnMut(Line) -> Result<()>,
) -> Result<()> {
    let gpu = Gpu::new(options.clone())?;
    let plan = suite.plan(gpu.report())?;
    tell(Line::Adapter(Box::new(adapter_line(&gpu, selection, plan.cases()))))?;
    let fault = planted.and_then(|planted| planted.fault.clone());
    if let Some(fault) = &fault {
        plant(&gpu, fault)?;
    }
    let open = move || {
        let gpu = Gpu::new(options.clone())?;
        fault.as_ref().map_or(Ok(()), |fault| plant(&gpu, fault))?;
        Ok(gpu)
    };
    let mut runs = suite.run(&gpu)?.reopen_with(open);
    drop(gpu);
    while let Some(run) = runs.next_run() {
        tell(Line::Run(RunLine::new(&run)))?;
        if planted.is_some_and(|planted| planted.crashes(&run.kernels)) {
            std::process::abort();
        }
        let outcome = runs.execute(&run);
        tell(Line::Case(Box::new(CaseLine::new(&run, &outcome))))?;
    }
    Ok(())
}

pub fn adapter_line(gpu: &Gpu, selection: &str, cases: usize) -> AdapterLine {
    let report = gpu.report();
    let facts = float_facts(gpu).unwrap_or_else(|error| {
        log::warn!("the treatment of special floats is not known: {error}");
        Vec::new()
    });
    AdapterLine {
        schema: SCHEMA,
        frazil: env!("CARGO_PKG_VERSION").to_owned(),
        adapter: report.name.clone(),
        driver: report.driver.clone(),
        backend: report.backend.to_string(),
        shader_compiler: report.shader_compiler.to_string(),
        kind: report.kind.to_string(),
        software_adapter: report.software,
        subgroup: report.subgroup,
        cooperative_matrix: report.cooperative_matrix,
        timestamps: report.timestamps,
        max_buffer_bytes: report.max_buffer,
        max_binding_bytes: report.max_binding,
        max_storage_buffers: report.max_storage_buffers,
        max_workgroup_memory_bytes: report.max_workgroup_memory,
        max_invocations: report.max_invocations,
        families: GemmFamily::supported(report)
            .into_iter()
            .chain(GemmFamily::cooperative(report))
            .map(|family| family.to_string())
            .collect(),
        floats: facts.iter().map(|fact| (fact.name.to_owned(), fact.value.to_owned())).collect(),
        selection: selection.to_owned(),
        cases,
    }
}
