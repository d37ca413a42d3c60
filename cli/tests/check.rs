//! `frazil check`: lines as they arrive, selection, planted faults, the files for CI systems, and baselines.

use crate::program::{PROGRAM, folder, frazil, lines};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A selection of few cases: those of two operations, each with one kernel.
const FEW: [&str; 5] = ["check", "--case", "mul 3 of*", "--case", "add 3 of*"];

fn check(arguments: &[&str]) -> Output {
    frazil(&[&FEW[..], arguments].concat())
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

/// The lines of one type.
fn of<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|line| line["type"] == kind).collect()
}

/// Compares a value with a JSON schema, of which it supports what docs/check.schema.json uses. Returns the first
/// difference.
fn violation(schema: &Value, root: &Value, value: &Value, at: &str) -> Option<String> {
    let known = [
        "$ref",
        "const",
        "enum",
        "type",
        "items",
        "properties",
        "required",
        "additionalProperties",
        "description",
        "title",
        "$schema",
        "$defs",
        "oneOf",
        "minimum",
    ];
    for keyword in schema.as_object().into_iter().flat_map(Map::keys) {
        assert!(known.contains(&keyword.as_str()), "the schema has an unknown keyword {keyword}");
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).expect("the target of a reference");
        return violation(target, root, value, at);
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let found: Vec<_> = options.iter().map(|option| violation(option, root, value, at)).collect();
        let matching = found.iter().filter(|found| found.is_none()).count();
        return (matching != 1).then(|| format!("{at}: {matching} of {} match: {found:?}", options.len()));
    }
    if schema.get("const").is_some_and(|expected| expected != value) {
        return Some(format!("{at}: expected {}, got {value}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return Some(format!("{at}: expected one of {}, got {value}", schema["enum"]));
    }
    let is = |name: &Value| match name.as_str().expect("the name of a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    let fits = match &schema["type"] {
        Value::Null => true,
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    };
    if !fits {
        return Some(format!("{at}: expected {}, got {value}", schema["type"]));
    }
    if schema["minimum"].as_f64().is_some_and(|least| value.as_f64().is_some_and(|x| x < least)) {
        return Some(format!("{at}: expected at least {}, got {value}", schema["minimum"]));
    }
    if let Some(items) = value.as_array().filter(|_| schema.get("items").is_some()) {
        return items
            .iter()
            .enumerate()
            .find_map(|(index, item)| violation(&schema["items"], root, item, &format!("{at}[{index}]")));
    }
    let object = value.as_object()?;
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.into_iter().find(|name| !object.contains_key(*name)) {
        return Some(format!("{at}: {missing} is missing"));
    }
    object.iter().find_map(|(name, value)| {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => violation(schema, root, value, &at),
            (None, Value::Bool(false)) => Some(format!("{at}: unknown")),
            (None, Value::Object(_)) => violation(&schema["additionalProperties"], root, value, &at),
            (None, _) => None,
        }
    })
}

/// The schema in `docs/`.
fn schema() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/check.schema.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn conforms(all: &[Value]) {
    let schema = schema();
    for line in all {
        assert_eq!(violation(&schema, &schema, line, "line"), None, "{line}");
    }
}

#[test]
fn schema_refuses_other_lines() {
    let schema = schema();
    let good = json!({ "type": "kernel", "kernel": "relu", "runs": 3, "failed": 0, "worst_of_bound": null, "passed": true });
    assert_eq!(violation(&schema, &schema, &good, "line"), None);
    for (field, wrong) in [
        ("runs", json!("3")),
        ("runs", json!(-1)),
        ("passed", json!(null)),
        ("type", json!("kernels")),
        ("unknown", json!(1)),
    ] {
        let mut line = good.clone();
        line[field] = wrong;
        assert!(violation(&schema, &schema, &line, "line").is_some(), "{line}");
    }
    let mut short = good;
    short.as_object_mut().unwrap().remove("kernel");
    assert!(violation(&schema, &schema, &short, "line").is_some());
}

#[test]
fn lines_are_those_of_the_schema_in_order() {
    let output = check(&["--json", "--repeat", "2"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let all = lines(&output);
    conforms(&all);
    let kinds: Vec<_> = all.iter().map(|line| line["type"].as_str().unwrap()).collect();
    let mut order = kinds.clone();
    order.dedup();
    assert_eq!(order, ["adapter", "case", "kernel", "summary"]);
    let cases = of(&all, "case");
    assert!(cases.len() >= 8 && cases.iter().all(|case| case["status"] == "pass"));
    assert_eq!(all[0]["cases"], cases.len());
    let summary = all.last().unwrap();
    assert_eq!((&summary["passed"], &summary["runs"]["pass"]), (&true.into(), &cases.len().into()));
    let kernels: BTreeMap<_, _> = of(&all, "kernel")
        .iter()
        .map(|line| (line["kernel"].as_str().unwrap(), line["runs"].as_u64().unwrap()))
        .collect();
    assert_eq!(kernels.keys().collect::<Vec<_>>(), [&"add", &"mul"]);
    assert_eq!(kernels.values().sum::<u64>(), cases.len() as u64);
    // The runs that --list prints are those that run.
    let listed = lines(&check(&["--json", "--list"]));
    conforms(&listed);
    let key = |line: &Value| ["case", "family", "reduction", "seed"].map(|field| line[field].clone());
    assert!(listed.iter().map(key).eq(cases.iter().map(|case| key(case))));
    // The text says the same.
    let text = String::from_utf8(check(&[]).stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), cases.len(), "{text}");
    assert!(
        text.starts_with("adapter: ") && text.contains("\nfloats: ") && text.contains("\nlimits: "),
        "{text}"
    );
    assert!(text.ends_with("every kernel agrees with the reference\n"), "{text}");
    let quiet = String::from_utf8(check(&["--quiet"]).stdout).unwrap();
    assert!(!quiet.lines().any(|line| line.starts_with("ok ")) && quiet.contains("\nadd "), "{quiet}");
}

#[test]
fn wrong_kernels_are_named_and_reproduced() {
    let dump = folder("check-dump");
    for (fault, got) in [("wrong:mul", json!(12345.0)), ("nan:mul", json!("NaN"))] {
        let output = check(&["--json", "--plant", fault]);
        assert_eq!(code(&output), 1, "{output:?}");
        let all = lines(&output);
        conforms(&all);
        let failed: Vec<_> =
            of(&all, "case").into_iter().filter(|case| case["status"] != "pass").cloned().collect();
        assert!(
            !failed.is_empty() && failed.iter().all(|case| case["kernels"] == json!(["mul"])),
            "{failed:?}"
        );
        assert!(
            failed.iter().all(|case| case["status"] == "fail" && case["worst"]["got"] == got),
            "{failed:?}"
        );
        for kernel in of(&all, "kernel") {
            assert_eq!(kernel["passed"], kernel["kernel"] != "mul", "{kernel}");
        }
        let error = all.last().unwrap();
        assert_eq!((&error["kind"], &error["exit_code"]), (&"verdict".into(), &1.into()));
        assert_eq!(of(&all, "summary")[0]["new_failures"], failed.len());

        let (case, family) = (failed[0]["case"].as_str().unwrap(), failed[0]["family"].as_str().unwrap());
        let path = dump.to_str().unwrap();
        let reproduce = ["check", "--reproduce", case, "--family", family, "--dump", path, "--json"];
        let output = frazil(&[&reproduce[..], &["--plant", fault]].concat());
        assert_eq!(code(&output), 1, "{output:?}");
        let again = lines(&output);
        conforms(&again);
        let [repeated] = of(&again, "case")[..] else { panic!("{again:?}") };
        assert_eq!(repeated["worst"], failed[0]["worst"]);
        let written = dump.join(format!("{family}-serial"));
        let read = |name: &str| std::fs::read(written.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (name, part) in [
            ("00-mul.wgsl", "fn main"),
            ("00-mul.hlsl", "numthreads"),
            ("00-mul.msl", "kernel void"),
            ("00-mul.glsl", "void main"),
            ("launches.json", "\"00-mul\""),
            ("result.json", "\"fail\""),
        ] {
            let text = String::from_utf8(read(name)).unwrap();
            assert!(text.contains(part), "{name}: {text}");
        }
        assert_eq!(read("00-mul.spv")[..4], 0x0723_0203u32.to_le_bytes());
        let names: Vec<_> = std::fs::read_dir(&written)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        let array = |end: &str| {
            let name =
                names.iter().find(|name| name.ends_with(end)).unwrap_or_else(|| panic!("{end}: {names:?}"));
            frazil::interop::npy::read(written.join(name)).unwrap()
        };
        let (x, y) = (array("operand-0.npy"), array("operand-1.npy"));
        let (expected, result) = (array("expected.npy"), array("got.npy"));
        assert_eq!((&x.shape, &expected.shape), (&result.shape, &y.shape));
        let [x, y, expected, result] = [x, y, expected, result].map(|array| array.into_f32().unwrap());
        assert!(expected.iter().enumerate().all(|(i, &e)| e == x[i] * y[i]));
        let element = result[failed[0]["worst"]["index"].as_u64().unwrap() as usize];
        assert!(if fault.starts_with("nan") { element.is_nan() } else { element == 12345.0 }, "{element}");
        // Without the fault the case passes.
        assert_eq!(code(&frazil(&reproduce)), 0);
        std::fs::remove_dir_all(&dump).unwrap();
    }
}

/// A crash, a hang and a lost device each end one case with its name; all others run.
#[test]
fn stopped_cases_are_named_and_the_others_run() {
    // Each hang takes its time: of one shape only.
    const HANGING: [&str; 5] = ["check", "--case", "mul 3 of [5]*", "--case", "add 3 of [5]*"];
    for (fault, status, isolate) in [
        ("crash:mul", "crash", true),
        ("lost:mul", "lost", true),
        ("lost:mul", "lost", false),
        ("hang:mul", "timeout", true),
    ] {
        let (few, count, timeout) = if status == "timeout" { (HANGING, 4, "1") } else { (FEW, 12, "60") };
        let mut arguments = vec!["--json", "--plant", fault, "--timeout", timeout];
        if isolate {
            arguments.push("--isolate");
        }
        let output = frazil(&[&few[..], &arguments].concat());
        assert_eq!(code(&output), 4, "{fault}: {output:?}");
        let all = lines(&output);
        conforms(&all);
        let cases = of(&all, "case");
        assert_eq!(cases.len(), count, "{fault}");
        for case in cases {
            let expected = if case["kernels"] == json!(["mul"]) { status } else { "pass" };
            assert_eq!(case["status"], expected, "{fault}: {case}");
        }
        let summary = of(&all, "summary")[0];
        assert_eq!((&summary["complete"], &summary["passed"]), (&true.into(), &false.into()));
        let error = all.last().unwrap();
        assert_eq!((&error["kind"], &error["exit_code"]), (&"stopped".into(), &4.into()));
    }
    // Without a process of their own, the cases end with the program; what ran before is there.
    let output = check(&["--json", "--plant", "crash:mul"]);
    assert_ne!(output.status.code(), Some(0));
    let all = lines(&output);
    conforms(&all);
    assert_eq!(all[0]["type"], "adapter");
    // Nor does a hang let others run, but it ends the program, with the results so far.
    let output = frazil(&[&HANGING[..], &["--json", "--plant", "hang:mul", "--timeout", "1"]].concat());
    assert_eq!(code(&output), 4, "{output:?}");
    let all = lines(&output);
    conforms(&all);
    assert_eq!(of(&all, "case").last().unwrap()["status"], "timeout");
    assert_eq!(of(&all, "summary")[0]["complete"], false);
    // The time limit ends the run, and says so.
    let output = frazil(&["check", "--json", "--time-limit", "1"]);
    assert_eq!(code(&output), 4, "{output:?}");
    let all = lines(&output);
    conforms(&all);
    assert_eq!(of(&all, "summary")[0]["complete"], false);
    let error = all.last().unwrap()["error"].as_str().unwrap();
    assert!(error.contains("the time limit of 1 s"), "{error}");
}

/// The command that a failed call prints repeats the failure as it stands, in a shell: of every fault, also of cases that only
/// `--full` or `--seed` select. Its folder has the shaders even if the process ends.
#[cfg(unix)]
#[test]
fn printed_commands_reproduce_every_fault() {
    let out = folder("check-reproduce");
    std::fs::create_dir_all(&out).unwrap();
    let one: &[&str] = &["--case", "mul 3 of [5] integers", "--family", "register"];
    let random: &[&str] = &["--seed", "5", "--case", "random 5/*: mul*", "--family", "register"];
    let training: &[&str] =
        &["--full", "--case", "training steps, sgd with Nesterov*", "--family", "register"];
    for (selection, fault, expected, status) in [
        (one, "nan:mul", 1, "fail"),
        (one, "flaky:mul", 1, "fail"),
        (one, "lost:mul", 4, "lost"),
        (one, "hang:mul", 4, "timeout"),
        (one, "crash:mul", 134, ""),
        (random, "wrong:mul", 1, "fail"),
        (training, "lost:gemm_register", 4, "lost"),
    ] {
        let (timeout, repeat) = (if fault.starts_with("hang") { "1" } else { "60" }, "2");
        let more = ["--plant", fault, "--timeout", timeout, "--repeat", repeat, "--isolate"];
        let output = frazil(&[&["check"], selection, &more].concat());
        assert_eq!(
            code(&output),
            if fault.starts_with("crash") { 4 } else { expected },
            "{fault}: {output:?}"
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let hint = text.lines().find_map(|line| line.strip_prefix("to reproduce the first: frazil "));
        let command = format!("{PROGRAM} {}", hint.unwrap_or_else(|| panic!("{fault}: {text}")));
        // The shell, not a process of its own, tells a signal by its number and 128.
        let shell = ["-c", &format!("{command}; exit $?")];
        let output = Command::new("sh").args(shell).current_dir(&out).output().unwrap();
        assert_eq!(code(&output), expected, "{command}: {output:?}");
        let [dump] = &std::fs::read_dir(out.join("failure")).unwrap().collect::<Vec<_>>()[..] else {
            panic!("{command}")
        };
        let dump = dump.as_ref().unwrap().path();
        let launches = std::fs::read_to_string(dump.join("launches.json")).unwrap();
        assert!(launches.contains(fault.split(':').next_back().unwrap()), "{launches}");
        let result = std::fs::read_to_string(dump.join("result.json")).ok();
        let result = result.map(|text| serde_json::from_str::<Value>(&text).unwrap()["status"].clone());
        assert_eq!(result, (!status.is_empty()).then(|| status.into()), "{command}");
        std::fs::remove_dir_all(out.join("failure")).unwrap();
    }
    std::fs::remove_dir_all(out).unwrap();
}

/// A worker process is started as its program was: here by a dynamic loader, as `scripts/newest-mesa.sh` does.
#[cfg(target_os = "linux")]
#[test]
fn isolated_cases_run_through_a_dynamic_loader() {
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let Some(loader) = loaders.into_iter().find(|loader| Path::new(loader).exists()) else {
        println!("SKIPPED: no loader of {loaders:?}");
        return;
    };
    let arguments = ["--isolate", "--plant", "crash:mul", "--json"];
    let output = Command::new(loader).arg(PROGRAM).args(FEW).args(arguments).output().unwrap();
    assert_eq!(code(&output), 4, "{output:?}");
    let all = lines(&output);
    let cases = of(&all, "case");
    assert_eq!(cases.len(), 12, "{output:?}");
    for case in cases {
        assert_eq!(
            case["status"],
            if case["kernels"] == json!(["mul"]) { "crash" } else { "pass" },
            "{case}"
        );
    }
}

#[test]
fn results_that_differ_are_flaky() {
    for (more, expected) in [
        (&["--plant", "flaky:mul", "--repeat", "2"][..], 1),
        (&["--plant", "flaky:mul", "--load", "2"], 1),
        (&["--repeat", "2", "--load", "2"], 0),
    ] {
        let output = check(&[more, &["--json"]].concat());
        assert_eq!(code(&output), expected, "{more:?}: {output:?}");
        let all = lines(&output);
        conforms(&all);
        for case in of(&all, "case") {
            let flaky = expected == 1 && case["kernels"] == json!(["mul"]);
            assert_eq!(case["status"], if flaky { "flaky" } else { "pass" }, "{case}");
        }
    }
}

#[test]
fn killed_runs_leave_valid_lines() {
    let mut program = Command::new(PROGRAM);
    let mut child =
        program.args(["check", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut all = Vec::new();
    let read = |stdout: &mut BufReader<_>, all: &mut Vec<Value>| {
        let mut line = String::new();
        let read = stdout.read_line(&mut line).unwrap();
        if read > 0 {
            assert!(line.ends_with('\n'), "{line}");
            all.push(serde_json::from_str(&line).unwrap());
        }
        read
    };
    while all.len() < 5 {
        assert!(read(&mut stdout, &mut all) > 0);
    }
    child.kill().unwrap();
    while read(&mut stdout, &mut all) > 0 {}
    child.wait().unwrap();
    conforms(&all);
    assert_eq!(all[0]["type"], "adapter");
    assert!(all[1..].iter().all(|line| line["type"] == "case"));
}

#[test]
fn baselines_and_expectations_tell_new_failures_from_known_ones() {
    let out = folder("check-known");
    std::fs::create_dir_all(&out).unwrap();
    let file = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let save = |name: &str, output: &Output| {
        let path = file(name);
        std::fs::write(&path, &output.stdout).unwrap();
        path
    };
    let fault = ["--json", "--plant", "wrong:mul"];
    let written = file("written.jsonl");
    let good = save("good.jsonl", &check(&["--json"]));
    let bad = save("bad.jsonl", &check(&[&fault[..], &["--write-baseline", &written]].concat()));
    let summary = |output: &Output| {
        let all = lines(output);
        conforms(&all);
        of(&all, "summary")[0].clone()
    };
    let counts = |line: &Value| {
        ["known_failures", "new_failures", "fixed", "missing"].map(|f| line[f].as_u64().unwrap())
    };

    let output = check(&["--json", "--baseline", &good]);
    assert_eq!((code(&output), counts(&summary(&output))), (0, [0, 0, 0, 0]));
    let output = check(&[&fault[..], &["--baseline", &good]].concat());
    let [_, new, ..] = counts(&summary(&output));
    assert!(code(&output) == 1 && new >= 4, "{output:?}");
    let all = lines(&output);
    let changes = of(&all, "change");
    assert!(changes.len() == new as usize && changes.iter().all(|line| line["change"] == "new_failure"));
    let output = check(&[&fault[..], &["--baseline", &bad]].concat());
    assert_eq!((code(&output), counts(&summary(&output))), (0, [new, 0, 0, 0]));
    let output = check(&["--json", "--baseline", &bad]);
    assert_eq!((code(&output), counts(&summary(&output))), (0, [0, 0, new, 0]));
    // Only what changes is printed as text.
    let text = String::from_utf8(check(&["--baseline", &bad]).stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("fixed: ")).count(), new as usize, "{text}");
    assert!(!text.lines().any(|line| line.starts_with("ok ")), "{text}");

    // A case and a kernel that are no longer run; another adapter is a fact, and no failure.
    let text = std::fs::read_to_string(&good).unwrap();
    let more = text.replace("\"case\":\"mul 3 of [5] reals\"", "\"case\":\"mul 3 of [6] reals\"");
    let more = more
        .replace("\"kernel\":\"add\"", "\"kernel\":\"subtract\"")
        .replace("\"adapter\":\"", "\"adapter\":\"other ");
    assert_ne!(more, text);
    std::fs::write(file("more.jsonl"), more).unwrap();
    let output = check(&["--json", "--baseline", &file("more.jsonl")]);
    assert_eq!((code(&output), counts(&summary(&output))[3]), (1, 2), "{output:?}");
    let all = lines(&output);
    let facts =
        of(&all, "change").iter().filter(|line| line["change"] == "fact" && line["of"] == "adapter").count();
    assert_eq!(facts, 1);
    // With another selection, nothing is missing. A baseline may leave out the cases that pass.
    let output = frazil(&["check", "--case", "mul 3 of*", "--json", "--baseline", &file("more.jsonl")]);
    assert_eq!(code(&output), 0, "{output:?}");
    let short: String =
        text.lines().filter(|line| !line.contains("\"pass\"")).map(|line| format!("{line}\n")).collect();
    std::fs::write(file("short.jsonl"), short).unwrap();
    assert_eq!(code(&check(&["--json", "--baseline", &file("short.jsonl")])), 0);
    assert_eq!(code(&check(&[&fault[..], &["--baseline", &file("short.jsonl")]].concat())), 1);
    // The program writes such a file itself.
    let text = std::fs::read_to_string(&bad).unwrap();
    let kept = text.lines().filter(|line| !line.contains("\"status\":\"pass\""));
    let kept: Vec<Value> = kept.map(|line| serde_json::from_str(line).unwrap()).collect();
    let kept: Vec<_> = kept.into_iter().filter(|line| line["error"].is_null()).collect();
    let text = std::fs::read_to_string(&written).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, kept);
    let output = check(&[&fault[..], &["--baseline", &written]].concat());
    assert_eq!((code(&output), counts(&summary(&output))), (0, [new, 0, 0, 0]), "{output:?}");
    let output = check(&["--json", "--baseline", &written]);
    assert_eq!((code(&output), counts(&summary(&output))), (0, [0, 0, new, 0]));

    std::fs::write(file("expect"), "# The fault.\nmul 3 of*   # all\n").unwrap();
    let output = check(&[&fault[..], &["--expect", &file("expect")]].concat());
    assert_eq!((code(&output), counts(&summary(&output))), (0, [new, 0, 0, 0]), "{output:?}");
    let output = check(&["--json", "--expect", &file("expect")]);
    assert_eq!(code(&output), 1);
    assert_eq!(summary(&output)["stale"].as_array().unwrap().len(), 1);
    std::fs::write(file("expect"), "mul 3 of*\nadd*\nnothing\n").unwrap();
    let output = check(&[&fault[..], &["--expect", &file("expect")]].concat());
    let stale = summary(&output)["stale"].clone();
    assert_eq!((code(&output), stale.as_array().unwrap().len()), (1, 2), "{stale}");
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn junit_and_markdown_have_every_failure() {
    let out = folder("check-files");
    std::fs::create_dir_all(&out).unwrap();
    let [junit, markdown] = ["junit.xml", "summary.md"].map(|name| out.join(name));
    let files = ["--junit", junit.to_str().unwrap(), "--markdown", markdown.to_str().unwrap()];
    for fault in [None, Some("wrong:mul"), Some("lost:mul")] {
        let plant = fault.map(|fault| vec!["--plant", fault]).unwrap_or_default();
        let output = check(&[&files[..], &plant, &["--json"]].concat());
        let all = lines(&output);
        let cases = of(&all, "case");
        let of_status = |status: &str| cases.iter().filter(|case| case["status"] == status).count();
        let xml = std::fs::read_to_string(&junit).unwrap();
        assert_eq!(xml.matches("<testcase ").count(), cases.len());
        assert_eq!(xml.matches("<failure ").count(), of_status("fail"));
        assert_eq!(xml.matches("<error ").count(), of_status("lost"));
        let counts = format!(
            "tests=\"{}\" failures=\"{}\" errors=\"{}\"",
            cases.len(),
            of_status("fail"),
            of_status("lost")
        );
        assert_eq!(xml.matches(&counts).count(), 2, "{xml}");
        well_formed(&xml);
        let text = std::fs::read_to_string(&markdown).unwrap();
        assert_eq!(text.contains("**fails**"), fault.is_some(), "{text}");
        let failures = cases.len() - of_status("pass");
        assert_eq!(text.lines().filter(|line| line.starts_with("- ")).count(), failures, "{text}");
    }
    let output = check(&["--junit", out.join("none/junit.xml").to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("none"), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    std::fs::remove_dir_all(out).unwrap();
}

/// Asserts that the tags of an XML text are closed in order, and that its attributes are quoted.
fn well_formed(xml: &str) {
    let mut open = Vec::new();
    for tag in xml.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("the end of a tag");
        assert!(text.trim().is_empty() && tag.matches('"').count() % 2 == 0, "{tag}");
        let name = tag.split([' ', '/']).next().unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.starts_with('?') && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn invalid_arguments_are_named() {
    let none = folder("check-none");
    let none = none.to_str().unwrap();
    std::fs::write(none, "{\"type\":\"case\"}\n").unwrap();
    let cases: [(&[&str], i32, &[&str]); 14] = [
        (&["--kernel", "gem_*"], 2, &["--kernel", "gem_*"]),
        (&["--op", "reluu"], 2, &["--op", "reluu"]),
        (&["--case", "no such case"], 2, &["--case", "no such case"]),
        (&["--case", "relu 7 of*", "--kernel", "gemm_*"], 2, &["--kernel gemm_*", "--list"]),
        (&["--shard", "3/2"], 2, &["--shard", "3/2"]),
        (&["--family", "subgroup3"], 2, &["--family", "subgroup3"]),
        (&["--reproduce", "no such case"], 2, &["--reproduce", "--list"]),
        (&["--dump", "x"], 2, &["--reproduce"]),
        (&["--reproduce", "x", "--load", "2"], 2, &["--reproduce", "--load"]),
        (&["--repeat", "0"], 2, &["--repeat", "1 or more"]),
        (&["--timeout", "0"], 2, &["--timeout", "1 or more"]),
        (&["--plant", "slow:relu"], 2, &["--plant", "wrong:gemm_*"]),
        (&["--baseline", none], 2, &["--baseline", "line 1", "missing field"]),
        (&["--expect", "/no/such/file"], 1, &["/no/such/file"]),
    ];
    for (arguments, expected, parts) in cases {
        let output = frazil(&[&["check", "--json"], arguments].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{arguments:?}: {message}");
    }
    std::fs::remove_file(none).unwrap();
}
