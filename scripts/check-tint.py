#!/usr/bin/env python3
"""Compiles WGSL shaders with Tint, Chrome's compiler, in a headless Chromium.

    scripts/check-tint.py [--pipelines N] [--limit SECONDS] [--time-limit SECONDS] [--flag=--CHROMIUM-FLAG]... SHADERS.json

SHADERS.json is a list of {"name", "kernel", "text", "bindings": [[0, "uniform"], ...], "subgroups": true or false};
if `subgroups` is true, `enable subgroups;` is prepended to the text. Each shader must compile to a compute pipeline within
the default limits of WebGPU. Each error is printed:

    FAIL kernel (name): line N: message: source line

Tint parses and analyses a shader in milliseconds; creating a pipeline takes up to a second with a software driver. With
--pipelines N, pipelines are created for N shaders of each kernel only, the longest among them; the others are only parsed
and analysed. The CPU time that the GPU process spends on a shader may not exceed --limit:

    SLOW kernel (name): 1.7 s of CPU time, more than 1.5

Chromium runs with the flag ZERO_LOOP, which makes Tint clear workgroup memory in a loop, as on Metal and DX12. Without it
(--flag=--disable-dawn-features=) it asks the driver to, and SwiftShader then compiles a store for each f32 of that memory,
whatever the shader does with it: 1.9 s for 16 KiB.

Exit codes: 0 if all shaders compiled, or were skipped (with a line SKIPPED) as the adapter lacks subgroups; 1 if one did
not compile or was slow, or a result is missing for any reason; 77 if there is no Chromium and apt-get cannot install it, or
no adapter.
CHROMIUM names the program to use instead of `chromium` on the PATH.
"""

import argparse
import collections
import http.server
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ZERO_LOOP = "--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension"
COMPILE_LIMIT = 1.5  # Seconds of CPU time for one shader. The goal is 1; work on other cores adds up to a half.
START_LIMIT = 90  # Seconds until the page reports its adapter.
TEXT_LIMIT = 120  # Seconds for one shader.
INSTALL_LIMIT = 300

# Invalid shaders, compiled before and after the others: they must fail, which shows that Tint's analysis runs, that errors
# are reported and that the device is not lost (a lost device accepts any shader).
PLANTED = [
    {"name": "a barrier in varying flow", "subgroups": False, "bindings": [[0, "storage"]], "text": """
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@compute @workgroup_size(64) fn main() { if (data[0] == 1u) { workgroupBarrier(); } }"""},
    {"name": "a broadcast in varying flow", "subgroups": True, "bindings": [[0, "storage"]], "text": """
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
    if (data[i] == 1u) { data[i] = subgroupBroadcast(data[i], 1u); }
}"""},
]


class Failure(Exception):
    """Raised if a result is missing; has the reason."""


class Nothing(Exception):
    """Raised if no browser or adapter is available; has the reason."""


def say(text):
    print(f"check-tint: {text}", file=sys.stderr, flush=True)


def flat(message):
    return " ".join(message.split())


def read(path):
    """Reads the shaders and checks that each has all fields."""
    try:
        texts = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: {error}") from None
    if not isinstance(texts, list) or not texts:
        raise Failure(f"{path} has no texts")
    kinds = {"name": str, "kernel": str, "text": str, "bindings": list, "subgroups": bool}
    for number, text in enumerate(texts):
        for key, kind in kinds.items():
            if not isinstance(text, dict) or not isinstance(text.get(key), kind):
                raise Failure(f"{path}: entry {number} has no {key} that is a {kind.__name__}")
    return texts


def install():
    """Installs Chromium with apt-get, if that needs no password."""
    if not shutil.which("apt-get"):
        raise Nothing("no chromium, and no apt-get")
    say("installing with apt-get: chromium")
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    end = time.monotonic() + INSTALL_LIMIT
    for step in ["install", "update", "install"]:
        command = [*as_root, "apt-get", "-qq", step]
        if step == "install":
            command += ["-y", "--no-install-recommends", "chromium"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, timeout=max(1, end - time.monotonic()))
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Nothing(f"no chromium, and it cannot be installed: {error}") from None
        if step == "install" and done.returncode == 0:
            return
    raise Nothing("no chromium, and apt-get cannot install it")


def chromium():
    named = os.environ.get("CHROMIUM")
    if named:
        found = shutil.which(named)
        if not found:
            raise Nothing(f"CHROMIUM={named} is not a program")
        return found
    if not shutil.which("chromium"):
        install()
    found = shutil.which("chromium")
    if not found:
        raise Nothing("apt-get has installed chromium, but the program is not on the PATH")
    return found


class Server(http.server.ThreadingHTTPServer):
    """Serves the page and the shaders; reports of the page are put into `events`."""

    daemon_threads = True

    def __init__(self, texts):
        super().__init__(("127.0.0.1", 0), Handler)
        self.events = queue.Queue()
        self.browser = None
        page = pathlib.Path(__file__).with_suffix(".html").read_bytes()
        self.files = {
            "/": ("text/html; charset=utf-8", page),
            "/texts": ("application/json", json.dumps(texts).encode()),
        }
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        # A broken connection; if it was needed, a result is missing.
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def head(self, code, kind, length=None):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.flush()

    def do_GET(self):
        if self.path == "/alive":
            self.head(200, "text/plain")
            # Blocks until the connection ends, which it does with the page.
            try:
                self.rfile.read(1)
            except OSError:
                pass
            self.server.events.put(("gone", {}))
            return
        kind, content = self.server.files.get(self.path, (None, None))
        if kind is None:
            self.head(404, "text/plain", 0)
            return
        self.head(200, kind, len(content))
        self.wfile.write(content)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # The page waits for the response, so that nothing is compiled meanwhile.
        body["spent"] = self.server.browser and self.server.browser.gpu_seconds()
        self.server.events.put((self.path[1:], body))
        self.head(204, "text/plain", 0)


class Browser:
    """A headless Chromium with the page; `with` ends it and removes its files."""

    def __init__(self, program, url, flags):
        self.folder = tempfile.mkdtemp(prefix="check-tint-")
        self.log = open(os.path.join(self.folder, "log"), "w+b")
        self.gpu_process = None
        command = [
            program, "--headless=new", "--no-sandbox", "--enable-unsafe-webgpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad",
            "--disable-dev-shm-usage", "--disable-gpu-watchdog", f"--user-data-dir={self.folder}/profile", *flags, url]
        try:
            self.process = subprocess.Popen(
                command, env={**os.environ, "HOME": self.folder}, stdin=subprocess.DEVNULL, stdout=self.log,
                stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            self.clear()
            raise Failure(f"{program} does not start: {error}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.clear()

    def ended(self, seconds):
        """Waits up to `seconds` for its exit code; None if it is still running."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def gpu_seconds(self):
        """Returns the CPU time that the GPU process has spent; None where it cannot be read."""
        try:
            self.gpu_process = self.gpu_process or self.find_gpu_process()
            # Fields 14 and 15 are the ticks in user and kernel mode; field 2 is the name in parentheses.
            fields = (self.gpu_process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, StopIteration):
            return None

    def find_gpu_process(self):
        def is_own(process):
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                return False
            return b"--type=gpu-process" in command and self.folder.encode() in command
        return next(process for process in pathlib.Path("/proc").glob("[0-9]*") if is_own(process))

    def clear(self):
        self.log.close()
        for _ in range(20):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not os.path.exists(self.folder):
                return
            time.sleep(0.1)

    def last_words(self):
        """Returns the end of its log, without errors about the missing desktop bus."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").splitlines()
        lines = [line for line in lines if line.strip() and "/dbus/" not in line and ":dbus/" not in line]
        return "".join(f"\n    {line[:300]}" for line in lines[-12:])


def spread(texts, most):
    """Selects the shaders to create pipelines for: at most `most` of each kernel, its longest text, which takes about the
    longest to compile, and others evenly from its first to its last."""
    if most is None:
        return set(range(len(texts)))
    kernels = collections.defaultdict(list)
    for number, text in enumerate(texts):
        kernels[text["kernel"]].append(number)
    chosen = set()
    for all_of in kernels.values() if most else []:
        longest = max(all_of, key=lambda number: len(texts[number]["text"]))
        others = [number for number in all_of if number != longest]
        steps = range(most - 1 if others else 0)
        chosen |= {longest, *(others[(len(others) - 1) * n // max(1, most - 2)] for n in steps)}
    return chosen


class Run:
    """The shaders of one run and their results."""

    def __init__(self, texts, most, limit):
        chosen = spread(texts, most)
        self.limit = limit
        self.spent = None  # CPU time of the GPU process until the last report.
        self.texts = [{**text, "pipeline": number in chosen} for number, text in enumerate(texts)]
        self.texts = PLANTED + self.texts + PLANTED
        self.results = []
        self.adapter = None
        self.counts = collections.Counter()
        self.errors = collections.Counter()
        self.warnings = collections.Counter()
        self.noted = set()

    def done(self):
        return sum(self.counts[outcome] for outcome in ["compiled", "failed", "skipped"])

    def current(self):
        if self.adapter is None:
            return "before the adapter was reported"
        if len(self.results) == len(self.texts):
            return "after the last shader"
        return f"at {self.texts[len(self.results)]['name']}"

    def collect(self, server, browser, limit):
        """Collects the reports of the page until it is done."""
        begin = last = shown = time.monotonic()
        while True:
            quiet = START_LIMIT if self.adapter is None else TEXT_LIMIT
            now = time.monotonic()
            if now > begin + limit:
                raise Failure(f"the time limit of {limit} s is exceeded {self.current()}")
            if now > last + quiet:
                raise Failure(f"no report for {quiet} s, {self.current()}{browser.last_words()}")
            if now > shown + 10:
                own = len(self.texts) - 2 * len(PLANTED)
                say(f"{self.done()} of {own} shaders, {now - begin:.0f} s")
                shown = now
            try:
                what, body = server.events.get(timeout=1)
            except queue.Empty:
                code = browser.ended(0)
                if code is not None:
                    raise Failure(f"the browser ended with {code}, {self.current()}{browser.last_words()}") from None
                continue
            last = time.monotonic()
            if None not in (self.spent, body.get("spent")):
                body["cpu"] = body["spent"] - self.spent
            self.spent = body.get("spent")
            if what == "none":
                raise Nothing(body["why"])
            if what == "fatal":
                raise Failure(f"{flat(body['why'])}, {self.current()}{browser.last_words()}")
            if what == "gone":
                code = browser.ended(2)
                gone = "the page is gone" if code is None else f"the browser ended with {code}"
                raise Failure(f"{gone}, {self.current()}{browser.last_words()}")
            if what == "adapter":
                self.adapter = body
                say(f"{body['browser']}, {body['name']}, {'with' if body['subgroups'] else 'without'} subgroups")
            elif what == "result":
                self.take(body)
            elif what == "done":
                break
        if len(self.results) != len(self.texts):
            raise Failure(f"expected {len(self.texts)} results, got {len(self.results)}")

    def take(self, result):
        index = len(self.results)
        if index >= len(self.texts) or (result["index"], result["name"]) != (index, self.texts[index]["name"]):
            raise Failure(f"unexpected result of {result['name']}, {self.current()}")
        text = self.texts[index]
        self.results.append(result)
        if result.get("skipped"):
            outcome = "skipped"
        elif any(m["type"] == "error" for m in result["messages"]) or result["others"]:
            outcome = "failed"
        else:
            outcome = "compiled"
        if "kernel" not in text:
            if outcome == "compiled":
                raise Failure(f"Tint compiles an invalid shader: {text['name']}")
            return
        self.counts[outcome] += 1
        if outcome == "failed":
            self.fail(text, result)
        if result.get("cpu", 0) > self.limit:
            self.counts["slow"] += 1
            print(f"SLOW {text['kernel']} ({text['name']}): {result['cpu']:.1f} s of CPU time, more than {self.limit}", flush=True)
        for message in result.get("messages", []):
            if message["type"] == "warning":
                self.warnings[text["kernel"], self.location(text, message)] += 1

    @staticmethod
    def location(text, message):
        """Formats line number, message and source line."""
        lines = text["text"].split("\n")
        if not 0 < message["line"] <= len(lines):
            return flat(message["message"])
        return f"line {message['line']}: {flat(message['message'])}: {lines[message['line'] - 1].strip()}"

    def fail(self, text, result):
        messages = result["messages"]
        errors = [m for m in messages if m["type"] == "error"]
        # An invalid module also gives an invalid pipeline: report that only if it is the only error.
        errors = errors or [{"line": 0, "message": message} for message in result["others"][:1]]
        for error in errors:
            print(f"FAIL {text['kernel']} ({text['name']}): {self.location(text, error)}", flush=True)
        key = text["kernel"], flat(errors[0]["message"]).split(" - While ")[0]
        self.errors[key] += 1
        if key not in self.noted:
            self.noted.add(key)
            for message in messages:
                if message["type"] == "info":
                    print(f"    {self.location(text, message)}")

    def report(self):
        for (kernel, warning), count in self.warnings.items():
            print(f"warning: {kernel}: {warning} ({count} shaders)")
        for (kernel, message), count in self.errors.most_common():
            print(f"{count:5} {kernel}: {message}")
        if self.counts["skipped"]:
            print(f"SKIPPED: {self.counts['skipped']} shaders need subgroups, which this adapter lacks")
        own = [(r["whole"] / 1000, r["front"] / 1000, r.get("cpu"), t["name"]) for r, t in zip(self.results, self.texts)
               if "kernel" in t and not r.get("skipped")]
        measured = bool(own) and all(cpu is not None for _, _, cpu, _ in own)
        slowest = sorted(((cpu if measured else whole, name) for whole, _, cpu, name in own), reverse=True)[:5]
        if slowest:
            clock = "in CPU time" if measured else "by the clock, as CPU time is not available"
            print(f"slowest, including the driver, {clock}: {', '.join(f'{name} {s:.2f} s' for s, name in slowest)}")
        skipped = f", {self.counts['skipped']} skipped" if self.counts["skipped"] else ""
        chosen = sum(text.get("pipeline", False) for text in self.texts)
        if chosen < len(self.texts) - 2 * len(PLANTED):
            skipped += f", pipelines created for {chosen} only"
        seconds, reading = (sum(times[n] for times in own) for n in [0, 1])
        print(f"{self.done()} shaders, {self.counts['compiled']} compiled, {self.counts['failed']} failed"
              f"{skipped}; {seconds:.0f} s, {reading:.0f} s of it to parse and analyse")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shaders", metavar="SHADERS.json")
    parser.add_argument("--pipelines", type=int, metavar="N", help="number of shaders of each kernel to create pipelines for [default: all]")
    parser.add_argument("--limit", type=float, default=COMPILE_LIMIT, metavar="SECONDS",
                        help="CPU time for one shader [default: %(default)s]")
    parser.add_argument("--time-limit", type=float, default=1200, metavar="SECONDS")
    parser.add_argument("--flag", action="append", default=[], metavar="FLAG", help="flag for Chromium; may be repeated")
    arguments = parser.parse_args()
    # Exits through `with`, which ends the browser. After SIGKILL the page ends itself, as its connection breaks.
    for number in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    run = None
    try:
        texts = read(arguments.shaders)
        program = chromium()
        run = Run(texts, arguments.pipelines, arguments.limit)
        server = Server(run.texts)
        with Browser(program, f"http://127.0.0.1:{server.server_port}/", [ZERO_LOOP, *arguments.flag]) as browser:
            server.browser = browser
            run.collect(server, browser, arguments.time_limit)
    except Nothing as why:
        print(f"SKIPPED: {why}")
        return 77
    except Failure as why:
        if run:
            run.report()
        print(f"FAIL: {why}")
        return 1
    run.report()
    if run.counts["compiled"] + run.counts["failed"] == 0:
        return 77
    return int(run.counts["failed"] + run.counts["slow"] > 0)


if __name__ == "__main__":
    sys.exit(main())
