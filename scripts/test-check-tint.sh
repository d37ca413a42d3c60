#!/bin/sh
# Tests check-tint.py with a fake browser, and with Chromium if it is available. Nothing is installed.
set -eu

script=$(cd "$(dirname "$0")" && pwd)/check-tint.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect WHAT CODE TEXT COMMAND...: checks the exit code, and that the output matches TEXT.
expect() {
    what=$1 want=$2 text=$3
    shift 3
    code=0
    "$@" >"$work/output" 2>&1 </dev/null || code=$?
    if [ "$code" = "$want" ] && grep -q -e "$text" "$work/output"; then
        echo "ok    $what"
        return
    fi
    failures=$((failures + 1))
    echo "FAIL  $what: exit $code, expected $want and '$text'; output:"
    cat "$work/output"
}

# texts FILE SUBGROUPS STATEMENT...: writes a list with one shader for each statement.
texts() {
    file=$1 subgroups=$2 separator='['
    shift 2
    for statement in "$@"; do
        printf '%s{"name": "sample-%s", "kernel": "sample", "bindings": [[0, "storage"]], "subgroups": %s, "text": "%s"}\n' \
            "$separator" "${#statement}" "$subgroups" "@group(0) @binding(0) var<storage, read_write> data: array<u32>;\\n\
@compute @workgroup_size(64)\\nfn main(@builtin(local_invocation_index) i: u32) {\\n    $statement\\n}" >>"$file"
        separator=,
    done
    echo ']' >>"$file"
}

check() {
    python3 "$script" "$@"
}

if ! command -v python3 >/dev/null; then
    echo "SKIPPED: python3 not found"
    exit 0
fi

texts "$work/good" false "data[i] = 1u;" "data[i] = 1u + i;"
texts "$work/bad" false "data[i] = 1u;" "data[i] = 1.5;"
texts "$work/varying" false "if (data[i] == 0u) { workgroupBarrier(); }"
texts "$work/broadcast" true "data[i] = subgroupBroadcast(i, 1u);"
texts "$work/undeclared" false "data[i] = subgroupBroadcast(i, 1u);"
echo '[]' >"$work/empty"
echo '[{"name": "sample", "kernel": "sample"}]' >"$work/half"

expect "an empty list" 1 "FAIL: .*empty has no texts" check "$work/empty"
expect "no list" 1 "FAIL: .*No such file" check "$work/none"
expect "an entry without a text" 1 "FAIL: .*entry 0 has no text" check "$work/half"

mkdir "$work/bin"
ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$work/bin/python3"
expect "without chromium and apt-get" 77 "SKIPPED: no chromium, and no apt-get" \
    env -u CHROMIUM PATH="$work/bin" python3 "$script" "$work/good"
printf '#!/bin/sh\nexit 100\n' >"$work/bin/apt-get"
cp "$work/bin/apt-get" "$work/bin/sudo"
chmod +x "$work/bin/apt-get" "$work/bin/sudo"
expect "apt-get without chromium" 77 "SKIPPED: .*apt-get cannot install it" \
    env -u CHROMIUM PATH="$work/bin" python3 "$script" "$work/good"
expect "a program that does not exist" 77 "SKIPPED: CHROMIUM=.* is not a program" env CHROMIUM="$work/none" python3 "$script" "$work/good"

# A fake browser that behaves as $FAKE says; the invalid shaders of check-tint.py fail.
cat >"$work/fake" <<'FAKE'
#!/usr/bin/env python3
import json, os, subprocess, sys, time, urllib.request

url, does = sys.argv[-1], os.environ["FAKE"]
if does == "works":
    subprocess.Popen([sys.executable, "-c", "while True: pass", "--type=gpu-process", *sys.argv[1:]])
if does == "ends":
    print("a last word")
    sys.exit(3)
alive = urllib.request.urlopen(url + "alive")

def report(what, **body):
    urllib.request.urlopen(url + what, json.dumps(body).encode()).close()

if does == "no adapter":
    report("none", why="WebGPU has no adapter")
elif does == "lost":
    report("fatal", why="the device is lost")
elif does == "reload":
    alive.close()
elif does != "hangs":
    report("adapter", name="fake", browser="Fake 1", subgroups=does != "no subgroups")
    texts = json.load(urllib.request.urlopen(url + "texts"))
    if does == "mixed":
        texts.reverse()
    for index, text in enumerate(texts[:3] if does == "few" else texts):
        messages = []
        if "kernel" not in text and does != "takes all" and not (does == "lost late" and index > 2):
            messages = [{"type": "error", "line": 1, "message": "planted"}]
        if does == "works" and text["name"] == "sample-13":
            time.sleep(2)
        if does == "dies" and index == 2:
            sys.exit(4)
        if does == "no subgroups" and text["subgroups"]:
            report("result", index=index, name=text["name"], skipped=True)
        else:
            report("result", index=index, name=text["name"], messages=messages, others=[], front=1, whole=2)
    report("done")
time.sleep(60)
FAKE
chmod +x "$work/fake"

fake() {
    does=$1
    shift
    env CHROMIUM="$work/fake" FAKE="$does" TMPDIR="$work" python3 "$script" "$@"
}

expect "valid shaders" 0 "2 shaders, 2 compiled, 0 failed" fake well "$work/good"
expect "fewer pipelines" 0 "2 compiled, 0 failed, pipelines created for 1 only" fake well --pipelines 1 "$work/good"
expect "more pipelines than shaders" 0 "2 compiled, 0 failed;" fake well --pipelines 5 "$work/good"
expect "a slow shader" 1 "^SLOW sample (sample-13): [0-9.]* s of CPU time, more than 0.2" \
    fake works --limit 0.2 "$work/good"
expect "the other one is not slow" 1 "^2 shaders, 2 compiled, 0 failed" fake works --limit 0.2 "$work/good"
expect "shaders within the limit" 0 "slowest, including the driver, in CPU time: sample-13 " fake works --limit 9 "$work/good"
expect "without CPU time" 0 "by the clock, as CPU time is not available: sample-" fake well --limit 0 "$work/good"
expect "no adapter" 77 "SKIPPED: WebGPU has no adapter" fake "no adapter" "$work/good"
expect "the browser ends at once" 1 "FAIL: the browser ended with 3, before the adapter was reported" fake ends "$work/good"
expect "the end of its log" 1 "^    a last word" fake ends "$work/good"
expect "the browser ends in between" 1 "FAIL: the browser ended with 4, at sample" fake dies "$work/good"
expect "the page is gone" 1 "FAIL: the page is gone" fake reload "$work/good"
expect "the device is lost" 1 "FAIL: the device is lost" fake lost "$work/good"
expect "a lost device accepts any shader" 1 "FAIL: Tint compiles an invalid shader" fake "lost late" "$work/good"
expect "a compiler without analysis" 1 "FAIL: Tint compiles an invalid shader" fake "takes all" "$work/good"
expect "missing results" 1 "FAIL: expected 6 results, got 3" fake few "$work/good"
expect "results of other shaders" 1 "FAIL: unexpected result of" fake mixed "$work/good"
expect "a browser that hangs" 1 "FAIL: the time limit of 2.0 s is exceeded" fake hangs --time-limit 2 "$work/good"
expect "no subgroups" 0 "2 compiled, 0 failed" fake "no subgroups" "$work/good"
expect "shaders that need subgroups" 77 "SKIPPED: 1 shaders need subgroups" fake "no subgroups" "$work/broadcast"
expect "no folder remains" 0 "^none$" sh -c 'ls -d "$1"/check-tint-* 2>/dev/null || echo none' - "$work"

if ! command -v chromium >/dev/null; then
    echo "SKIPPED: no chromium, so nothing is compiled"
    exit $((failures > 0))
fi
# The remaining tests need an adapter.
code=0
check "$work/good" >"$work/output" 2>&1 || code=$?
if [ "$code" = 77 ]; then
    cat "$work/output"
    exit $((failures > 0))
fi
expect "valid shaders" 0 "^2 shaders, 2 compiled, 0 failed" check "$work/good"
expect "an invalid shader with its name and line" 1 "^FAIL sample (sample-14): line 4: .*: data\[i\] = 1.5;$" check "$work/bad"
expect "the valid one in the same list" 1 "^2 shaders, 1 compiled, 1 failed" check "$work/bad"
expect "a barrier in varying flow" 1 "^FAIL sample .*line 4: 'workgroupBarrier' must only be called" check "$work/varying"
expect "subgroups" 0 "^1 shaders, 1 compiled\|^SKIPPED: 1 shaders need subgroups" check "$work/broadcast"
sed 's/"storage"/"uniform"/' "$work/good" >"$work/layout"
expect "a binding that differs from the shader" 1 "^FAIL sample .*Storage.*Uniform" check "$work/layout"
expect "bindings are not checked without a pipeline" 0 "^2 shaders, 2 compiled, 0 .*pipelines created for 0 only" \
    check --pipelines 0 "$work/layout"
expect "the shader is analysed without a pipeline" 1 "^FAIL sample .*line 4" check --pipelines 0 "$work/varying"
expect "undeclared subgroups" 1 "^FAIL sample .*line 4: .*subgroup" check "$work/undeclared"

exit $((failures > 0))
