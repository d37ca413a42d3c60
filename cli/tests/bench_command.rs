//! `frazil bench`: JSON lines, trace and charts. Times are not checked, as they depend on the load of the
//! machine.

use crate::program::{folder, frazil, lines};
use serde_json::Value;
use std::collections::BTreeMap;

fn bench(arguments: &[&str]) -> Vec<Value> {
    let output = frazil(&[&["bench", "--json"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    lines(&output)
}

fn number(line: &Value, field: &str) -> f64 {
    line[field].as_f64().unwrap_or_else(|| panic!("no number {field} in {line}"))
}

#[test]
fn json_lines_have_all_fields() {
    let all = bench(&["--workload", "digits", "--workload", "conv-layer", "--batch", "2", "--steps", "3"]);
    assert_eq!(all.len(), 2);
    for (line, name) in all.iter().zip(["digits", "conv-layer"]) {
        assert_eq!((&line["workload"], &line["batch"], &line["steps"]), (&name.into(), &2.into(), &3.into()));
        for field in
            ["median_step_ms", "min_step_ms", "p90_ms", "first_step_ms", "total_startup_ms", "gflops"]
        {
            assert!(number(line, field) > 0.0, "{field}: {line}");
        }
        assert!(number(line, "min_step_ms") <= number(line, "median_step_ms"));
        assert!(number(line, "median_step_ms") <= number(line, "p90_ms"));
        assert!(number(line, "first_step_ms") < number(line, "total_startup_ms"));
        for field in ["device_bytes", "dispatches", "bytes_per_step", "minimum_bytes_per_step"] {
            assert!(line[field].as_u64() > Some(0), "{field}: {line}");
        }
        for field in ["adapter", "driver", "backend", "family"] {
            assert!(line[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {line}");
        }
        assert!(line["software_adapter"].is_boolean());
        let useful = number(line, "useful_share");
        assert!(useful > 0.0 && useful <= 1.0, "{line}");
        assert!(line["crossings"].is_null() && line["ratio_to_old"].is_null(), "{line}");
        assert_eq!(
            (&line["version"], &line["flops_avoided"]),
            (&env!("CARGO_PKG_VERSION").into(), &0.into())
        );
        assert_eq!(line["frozen"], false);
        assert!(line["ratio_to_nothing_frozen"].is_null() && line["weight_gradient_ms"].is_null());
    }
    assert!(all[0]["median_forward_ms"].is_null());
    assert!(number(&all[1], "median_forward_ms") > 0.0);
}

#[test]
fn all_update_rules_can_be_measured() {
    let kernels = [
        ("sgd", "sgd_momentum_update"),
        ("adam", "adam_update"),
        ("adamw", "adam_update"),
        ("amsgrad", "amsgrad_update"),
        ("rmsprop", "rmsprop_update"),
        ("adagrad", "adagrad_update"),
    ];
    for (rule, kernel) in kernels {
        let all = bench(&["--workload", "update-1000", "--steps", "1", "--profile", "--optimizer", rule]);
        let [peaks, _, dispatch, total] = all.as_slice() else { panic!("{rule}: {all:?}") };
        assert_eq!((&dispatch["kernel"], &total["kernel"]), (&kernel.into(), &kernel.into()), "{rule}");
        assert_eq!((&total["operation"], &total["dispatches"]), (&"all".into(), &1.into()), "{rule}");
        assert_eq!((&peaks["operation"], &dispatch["ms"]), (&"peaks".into(), &total["ms"]), "{rule}");
        let bytes = number(dispatch, "gbytes_per_s") / number(peaks, "gbytes_per_s");
        let flops = number(dispatch, "gflops") / number(peaks, "gflops");
        // Numbers that are read from JSON may differ in their last bit.
        let share = number(dispatch, "share_of_peak");
        assert!((share / bytes.max(flops) - 1.0).abs() < 1e-12, "{rule}: {share}, {bytes}, {flops}");
    }
}

#[test]
fn frozen_variants_have_ratios_to_nothing_frozen_and_a_control() {
    let flags = ["--workload", "digits", "--batch", "16", "--steps", "2", "--frozen"];
    let all = bench(&[&flags[..], &["0.9", "--structure", "filters"]].concat());
    let [plain, frozen, control] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(
        (&plain["frozen"], &frozen["frozen"], &control["frozen"]),
        (&false.into(), &true.into(), &false.into())
    );
    assert_eq!((&frozen["frozen_fraction"], &frozen["structure"]), (&0.9.into(), &"filters".into()));
    assert_eq!((&frozen["control"], &control["control"]), (&false.into(), &true.into()));
    assert!(plain["control"].is_null() && plain["ratio_to_nothing_frozen"].is_null());
    assert!(plain["weight_gradient_ratio"].is_null());
    assert!(number(plain, "weight_gradient_ms") > 0.0);
    for line in [frozen, control] {
        assert!(number(line, "weight_gradient_ms") > 0.0);
        for ratio in ["ratio_to_nothing_frozen", "weight_gradient_ratio"] {
            let quartiles = &line[format!("{ratio}_quartiles")];
            let median = number(line, ratio);
            assert!(
                median > 0.0
                    && quartiles[0].as_f64() <= Some(median)
                    && quartiles[1].as_f64() >= Some(median)
            );
        }
    }
    let avoided = |line: &Value| line["flops_avoided"].as_u64();
    assert_eq!((avoided(plain), avoided(control)), (Some(0), Some(0)));
    assert!(avoided(frozen) > Some(0), "{frozen}");
    // An empty mask does not change the dispatches.
    assert_eq!(control["dispatches"], plain["dispatches"]);
    // The shares from which on a weight gradient is computed in part; scattered masks need a larger one.
    let crossings = plain["crossings"].as_array().unwrap();
    let operations: Vec<_> = crossings.iter().map(|c| c["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["fc2 grad_kernel", "fc1 grad_kernel", "conv2 grad_kernel", "conv1 grad_kernel"]);
    for crossing in crossings {
        for field in ["filters", "rows", "scattered"] {
            let share = &crossing[field];
            assert!(share.is_null() || (0.0..1.0).contains(&number(crossing, field)), "{field}: {crossing}");
        }
    }
    assert!(frozen["crossings"].is_null() && control["crossings"].is_null());
    // With both convolutions frozen, only the weight gradients of the dense layers remain.
    let all = bench(&[&flags[..], &["1", "--structure", "layers"]].concat());
    assert!(all[1]["dispatches"].as_u64() < all[0]["dispatches"].as_u64(), "{all:?}");
    assert!(avoided(&all[1]) > avoided(frozen));
    let all = bench(&[&flags[..], &["1", "--structure", "layers", "--cache-prefix"]].concat());
    let [_, frozen, _, cached] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((&cached["cached"], &frozen["cached"]), (&true.into(), &false.into()));
    assert!(cached["dispatches"].as_u64() < frozen["dispatches"].as_u64(), "{cached}");
    assert!(cached["device_bytes"].as_u64() < frozen["device_bytes"].as_u64(), "{cached}");
    assert!(number(cached, "ratio_to_nothing_frozen") > 0.0);
}

/// A model without its optimizer, and a convolution that llama.cpp measures.
#[test]
fn gradients_and_convolutions_can_be_measured() {
    let convolution = "conv-llama-19x19x4x16-2x2x4";
    let names = ["digits", "digits-gradients", convolution];
    let flags = names.map(|name| ["--workload", name]).concat();
    let all = bench(&[&flags[..], &["--steps", "2"]].concat());
    let [training, gradients, llama] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(names.map(Value::from), [0, 1, 2].map(|i| all[i]["workload"].clone()));
    assert!(gradients["dispatches"].as_u64() < training["dispatches"].as_u64(), "{gradients} {training}");
    assert!(gradients["device_bytes"].as_u64() < training["device_bytes"].as_u64(), "{gradients} {training}");
    assert_eq!((&gradients["batch"], &llama["batch"]), (&64.into(), &16.into()));
    assert!(gradients["median_device_ms"].is_null());
    // Times of the dispatches alone need timestamp queries; `--frozen` has them on the same adapters.
    let flops = number(llama, "gflops") * number(llama, "median_step_ms") * 1e6;
    assert!((flops / f64::from(2 * 16 * 18 * 18 * 16 * 4) - 1.0).abs() < 1e-9, "{flops}");
    let with_timestamps = bench(&["--workload", "digits", "--batch", "2", "--steps", "1", "--frozen", "0.5"]);
    assert_eq!(llama["device_gflops"].is_number(), with_timestamps[0]["weight_gradient_ms"].is_number());
}

/// Replaces fields of all lines of a file of results, and writes them to another file.
fn write_changed(lines: &[Value], file: &std::path::Path, fields: &[(&str, Value)]) {
    let mut text = String::new();
    for line in lines {
        let mut line = line.clone();
        fields.iter().for_each(|(field, value)| line[*field] = value.clone());
        text += &format!("{line}\n");
    }
    std::fs::write(file, text).unwrap();
}

#[test]
fn compare_prints_ratios_and_fails_above_a_limit() {
    let out = folder("compare");
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("old.jsonl");
    let old = file.to_str().unwrap();
    let flags = ["--workload", "gemm-64", "--workload", "update-1000", "--steps", "2"];
    let lines_of = bench(&flags);
    let compare = |more: &[&str]| frazil(&[&["bench", "--compare", old], &flags[..], more].concat());

    // The old times are so long that no new one is longer.
    write_changed(&lines_of, &file, &[("median_step_ms", 1e9.into())]);
    let output = compare(&["--fail-above", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let table = text.split("compared with").nth(1).unwrap();
    assert!(
        table.contains("new / old") && table.contains("gemm-64") && table.contains("update-1000"),
        "{text}"
    );
    let output = compare(&["--json"]);
    assert!(output.status.success());
    for line in lines(&output) {
        assert_eq!(number(&line, "old_median_step_ms"), 1e9);
        let ratio = number(&line, "median_step_ms") / 1e9;
        assert!((number(&line, "ratio_to_old") / ratio - 1.0).abs() < 1e-9, "{line}");
    }

    // They are so short that every new one is longer: this alone is no failure, a limit makes it one.
    write_changed(&lines_of, &file, &[("median_step_ms", 1e-9.into())]);
    assert_eq!(compare(&[]).status.code(), Some(0));
    let output = compare(&["--fail-above", "1.5", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let last = lines(&output).pop().unwrap();
    assert_eq!((&last["kind"], &last["exit_code"]), (&"verdict".into(), &1.into()));
    let error = last["error"].as_str().unwrap();
    assert!(error.contains("1.5") && error.contains("gemm-64") && error.contains("update-1000"), "{error}");
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn compare_refuses_files_of_other_adapters_workloads_and_formats() {
    let out = folder("compare-errors");
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("old.jsonl");
    let old = file.to_str().unwrap();
    let flags = ["--workload", "gemm-64", "--steps", "1"];
    let lines_of = bench(&flags);
    let failure = |more: &[&str]| {
        let output = frazil(&[&["bench", "--json", "--compare", old], more].concat());
        let all = lines(&output);
        // Nothing is measured before the file is checked.
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0]["exit_code"].as_i64(), output.status.code().map(i64::from), "{all:?}");
        let text = |field: &str| all[0][field].as_str().unwrap().to_owned();
        (output.status.code().unwrap(), text("kind"), text("error"))
    };
    let refused = |more: &[&str], parts: &[&str]| {
        let (code, kind, error) = failure(more);
        assert_eq!((code, kind.as_str()), (2, "invalid_argument"), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    let adapter = lines_of[0]["adapter"].as_str().unwrap();
    let (code, kind, error) = failure(&flags);
    assert_eq!((code, kind.as_str()), (1, "io"), "{error}");

    write_changed(&lines_of, &file, &[("adapter", "Other 9000".into())]);
    refused(&flags, &["--compare", old, adapter, "Other 9000"]);
    write_changed(&lines_of, &file, &[]);
    refused(&["--workload", "gemm-32"], &[old, "results of gemm-32, batch 1", "got gemm-64, batch 1"]);
    refused(&["--workload", "digits", "--batch", "3"], &[old, "results of digits, batch 3"]);
    refused(&[&flags[..], &["--fail-above", "0"]].concat(), &["--fail-above", "above 0"]);
    refused(&[&flags[..], &["--fail-above", "NaN"]].concat(), &["--fail-above", "above 0"]);
    std::fs::write(&file, "").unwrap();
    refused(&flags, &[old, "no results"]);
    let line = lines_of[0].to_string();
    for (text, at) in [
        (format!("{line}\nnot JSON\n"), "line 2"),
        ("[1, 2]\n".to_owned(), "line 1"),
        (line.replace("median_step_ms", "median"), "line 1"),
        (line.replace("\"workload\"", "\"w\""), "line 1"),
    ] {
        std::fs::write(&file, text).unwrap();
        refused(&flags, &[old, at, "frazil bench --json"]);
    }
    // Lines of single dispatches, which --profile prints, are passed over.
    let profile = r#"{"operation":"gemm","ms":1}"#;
    std::fs::write(&file, format!("{profile}\n{line}\n")).unwrap();
    assert!(frazil(&[&["bench", "--compare", old], &flags[..]].concat()).status.success());
    // Two lines of the same measurement leave open which one is meant.
    std::fs::write(&file, format!("{line}\n{line}\n")).unwrap();
    refused(&flags, &[old, "one line of gemm-64, batch 1", "got 2; keep"]);
    // A limit without a file.
    let output = frazil(&[&["bench", "--fail-above", "2"], &flags[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn trace_has_an_event_for_each_dispatch_of_a_step() {
    let out = folder("trace");
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("trace.json");
    let flags =
        ["--workload", "digits", "--workload", "conv-layer", "--batch", "4", "--steps", "1", "--trace"];
    let all = bench(&[&flags[..], &[file.to_str().unwrap()]].concat());
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(trace["otherData"]["adapter"], all[0]["adapter"]);
    assert_eq!(trace["otherData"]["driver"], all[0]["driver"]);
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |process: usize, kind: &str| {
        let own = events.iter().filter(move |e| e["pid"] == process);
        own.filter(|e| e["ph"] == kind).cloned().collect::<Vec<_>>()
    };
    for (process, line) in (1..).zip(&all) {
        let names = of(process, "M");
        let named = names.iter().find(|e| e["name"] == "process_name").unwrap();
        assert_eq!(named["args"]["name"], line["workload"]);
        let (steps, dispatches): (Vec<_>, Vec<_>) = of(process, "X").into_iter().partition(|e| e["tid"] == 0);
        assert_eq!(steps.len(), 1);
        assert_eq!(dispatches.len() as u64, line["dispatches"].as_u64().unwrap());
        // Durations add up to the busy time of the step, and each dispatch is within the step.
        let sum: f64 = dispatches.iter().map(|e| number(e, "dur")).sum();
        let busy = number(&steps[0]["args"], "busy_us");
        assert!(sum > 0.0 && (sum - busy).abs() < 1e-6 * busy, "{sum} of {busy} us");
        let end = |e: &Value| number(e, "ts") + number(e, "dur");
        let ends = dispatches.iter().map(end).fold(0.0, f64::max);
        assert!((ends - number(&steps[0], "dur")).abs() < 1e-6 * ends, "{ends} of {}", steps[0]);
        assert!(dispatches.iter().all(|e| number(e, "ts") >= 0.0 && number(e, "dur") >= 0.0));
        // Dispatches of one thread do not overlap.
        let mut rows: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
        for event in &dispatches {
            rows.entry(event["tid"].as_u64().unwrap()).or_default().push(event);
        }
        for (row, mut events) in rows {
            assert!(
                names.iter().any(|e| e["name"] == "thread_name" && e["tid"] == row),
                "row {row} has no name"
            );
            events.sort_by(|a, b| number(a, "ts").total_cmp(&number(b, "ts")));
            for pair in events.windows(2) {
                assert!(end(pair[0]) <= number(pair[1], "ts") + 1e-3, "{} and {}", pair[0], pair[1]);
            }
        }
        for event in &dispatches {
            assert_eq!(event["cat"], event["args"]["kernel"]);
            assert!(event["args"]["flops"].is_u64() && event["args"]["bytes"].as_u64() > Some(0), "{event}");
            assert!(event["args"]["GFLOP/s"].is_number(), "{event}");
        }
    }
    let labels: Vec<_> = of(1, "X").iter().map(|e| e["name"].clone()).collect();
    assert!(
        ["conv1", "conv2 grad_kernel", "update"].iter().all(|l| labels.contains(&(*l).into())),
        "{labels:?}"
    );
    std::fs::remove_dir_all(out).unwrap();
}

/// A text element of an SVG file and its bounding box, with an estimated letter width of 0.6 of the font
/// size.
struct Text {
    words: String,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

fn texts(svg: &str) -> Vec<Text> {
    let mut all = Vec::new();
    for part in svg.split("<text ").skip(1) {
        let (attributes, rest) = part.split_once('>').unwrap();
        let words = rest.split("</text>").next().unwrap().trim().to_owned();
        let of = |name: &str| {
            let found = attributes.split_once(&format!("{name}=\"")).map(|(_, rest)| rest);
            found.and_then(|rest| rest.split('"').next()).unwrap_or_default()
        };
        let number = |name: &str| of(name).trim_end_matches("px").parse::<f64>();
        let (Ok(x), Ok(y)) = (number(" x").or(number("x")), number(" y")) else { panic!("{attributes}") };
        // Skips the rotated text, which is the label of the vertical axis.
        if attributes.contains("rotate") {
            continue;
        }
        let size = number("font-size").unwrap();
        let wide = 0.6 * size * words.chars().count() as f64;
        let left = match of("text-anchor") {
            "end" => x - wide,
            "middle" => x - wide / 2.0,
            _ => x,
        };
        let down: f64 = of("dy").trim_end_matches("em").parse().unwrap_or(0.0);
        let base = y + down * size;
        all.push(Text { words, left, right: left + wide, top: base - 0.75 * size, bottom: base });
    }
    all
}

#[test]
fn charts_have_layers_kernels_and_a_curve_without_overlapping_text() {
    let out = folder("svg");
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("bench.svg");
    let flags = ["--workload", "digits", "--batch", "4", "--steps", "2", "--frozen", "0.5", "--svg"];
    let all = bench(&[&flags[..], &[file.to_str().unwrap()]].concat());
    let fractions: Vec<_> = all.iter().map(|line| line["frozen_fraction"].as_f64()).collect();
    let expected = [None, Some(0.5), Some(0.0), Some(0.25), Some(0.75), Some(0.9), Some(0.99)];
    assert_eq!(fractions, expected);
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.trim_end().ends_with("</svg>"));
    // The chart has two curves, the times of the step and of the weight gradients, with one point for each of
    // six frozen fractions.
    assert_eq!(svg.matches("<circle").count(), 12);
    let texts = texts(&svg);
    let adapter = all[0]["adapter"].as_str().unwrap();
    for words in
        [adapter, "conv1", "conv2", "fc2", "update", "gemm", "max_pool2d", "milliseconds", "frozen fraction"]
    {
        assert!(texts.iter().any(|text| text.words.contains(words)), "no {words:?}");
    }
    for (index, a) in texts.iter().enumerate() {
        assert!(a.left >= 0.0 && a.right <= 1200.0, "{:?} from {} to {}", a.words, a.left, a.right);
        for b in &texts[..index] {
            let apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
            assert!(apart, "{:?} over {:?}", a.words, b.words);
        }
    }
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn invalid_workloads_and_files_are_errors_before_measuring() {
    let missing = std::env::temp_dir().join("frazil-no-such-folder").join("trace.json");
    let wrong: [(&[&str], i32, &str); 6] = [
        (&["--steps", "0"], 2, "--steps: expected 1 or more, got 0"),
        (&["--workload", "gemm-64", "--frozen", "0.5"], 2, "workloads that train"),
        (&["--workload", "digits", "--frozen", "1.5"], 2, "from 0 to 1"),
        (&["--workload", "lenet"], 2, "lenet28"),
        (&["--optimizer", "lion"], 2, "adagrad"),
        (&["--workload", "gemm-64", "--trace", missing.to_str().unwrap()], 1, "frazil-no-such-folder"),
    ];
    for (flags, code, part) in wrong {
        let output = frazil(&[&["bench"], flags].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {message}");
        assert!(message.contains(part), "{flags:?}: {message}");
    }
}
