//! A step in the Chrome trace event format, which Perfetto and chrome://tracing read.

use frazil::gpu::AdapterReport;
use frazil::low_level::TimedDispatch;
use serde_json::{Value, json};

/// Overlaps of two dispatches up to this number of nanoseconds are ignored, because they are below the
/// resolution of the timestamps.
const RESOLUTION: f64 = 0.5;

/// Trace events: a process for each workload, with thread 0 for the step and a thread for its dispatches, or
/// several where dispatches overlap.
#[derive(Default)]
pub struct Trace {
    events: Vec<Value>,
    processes: usize,
}

impl Trace {
    pub fn add(&mut self, name: &str, step: &[TimedDispatch]) {
        self.processes += 1;
        let process = self.processes;
        self.name(0, json!({ "ph": "M", "name": "process_name", "args": { "name": name } }));
        self.name(0, json!({ "ph": "M", "name": "thread_name", "args": { "name": "step" } }));
        let begin = step.iter().map(|d| d.begin_ns).fold(f64::INFINITY, f64::min);
        let end = step.iter().map(|d| d.begin_ns + d.ns).fold(begin, f64::max);
        let busy: f64 = step.iter().map(|d| d.ns).sum();
        self.events.push(json!({
            "ph": "X", "name": "step", "cat": "step", "pid": process, "tid": 0, "ts": 0.0, "dur": (end - begin) / 1e3,
            "args": { "dispatches": step.len(), "busy_us": busy / 1e3, "flops": step.iter().map(|d| d.flops).sum::<u64>() },
        }));
        // End time of the last dispatch in each thread of the trace.
        let mut rows: Vec<f64> = Vec::new();
        for d in step {
            let row = rows.iter().position(|&end| end <= d.begin_ns + RESOLUTION).unwrap_or(rows.len());
            if row == rows.len() {
                rows.push(0.0);
                let name =
                    if row == 0 { "dispatches".to_owned() } else { format!("concurrent dispatches {row}") };
                self.name(row + 1, json!({ "ph": "M", "name": "thread_name", "args": { "name": name } }));
            }
            rows[row] = d.begin_ns + d.ns;
            self.events.push(json!({
                "ph": "X", "name": d.label, "cat": d.kernel, "pid": process, "tid": row + 1,
                "ts": (d.begin_ns - begin) / 1e3, "dur": d.ns / 1e3,
                "args": {
                    "kernel": d.kernel, "flops": d.flops, "bytes": d.bytes, "GFLOP/s": d.flops as f64 / d.ns,
                    "GB/s": d.bytes as f64 / d.ns,
                },
            }));
        }
    }

    /// Appends an event that names the last process or one of its threads.
    fn name(&mut self, row: usize, mut event: Value) {
        event["pid"] = self.processes.into();
        event["tid"] = row.into();
        self.events.push(event);
    }

    pub fn json(&self, adapter: &AdapterReport) -> Value {
        json!({
            "traceEvents": self.events,
            "displayTimeUnit": "ms",
            "otherData": {
                "adapter": adapter.name, "driver": adapter.driver, "backend": adapter.backend.to_string(),
                "software_adapter": adapter.software, "version": env!("CARGO_PKG_VERSION"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dispatch(label: &str, begin_ns: f64, ns: f64) -> TimedDispatch {
        TimedDispatch {
            label: label.to_owned(),
            algorithm: None,
            kernel: "relu",
            begin_ns,
            ns,
            flops: 8,
            bytes: 16,
        }
    }

    #[test]
    fn overlapping_dispatches_are_in_different_threads() {
        let mut trace = Trace::default();
        let step =
            [("a", 0.0, 10.0), ("b", 10.0, 10.0), ("c", 15.0, 10.0), ("d", 20.0, 4.0), ("e", 25.0, 1.0)];
        trace.add("x", &step.map(|(label, begin, ns)| dispatch(label, begin, ns)));
        let rows: Vec<_> =
            trace.events.iter().filter(|e| e["cat"] == "relu").map(|e| e["tid"].clone()).collect();
        assert_eq!(rows, [1, 1, 2, 1, 1]);
        let of = |field: fn(&Value) -> Value| {
            trace.events.iter().filter(|e| e["cat"] == "step").map(field).collect::<Vec<_>>()
        };
        assert_eq!(of(|e| e["dur"].clone()), [0.026]);
        assert_eq!(of(|e| e["args"]["busy_us"].clone()), [0.035]);
    }
}
