"""A real `donar serve` process for the tests: started on a free port, stopped by signal, its output kept for failures."""

import http.client
import json
import re
import signal
import subprocess
import tempfile
import threading
import time

MODEL = "SmolLM2-135M-Instruct"
START_SECONDS = 300  # sanitizer builds are slow


class DonarServer:
    """`with DonarServer(binary, "--flag") as server:` is ready; wait=False returns as soon as it listens."""

    def __init__(self, binary, *flags, model=None, wait=True, env=None):
        arguments = [str(binary), "serve", *([str(model)] if model else []), "--port", "0", *flags]
        if model and "--served-model-name" not in flags:
            arguments += ["--served-model-name", MODEL]
        self.stderr = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self.stderr, text=True, env=env)
        self.port = None
        self.ready = threading.Event()
        threading.Thread(target=self._read_stdout, daemon=True).start()
        self._await(lambda: self.port, "listen")
        if wait:
            self._await(self.ready.is_set, "be ready")

    def _read_stdout(self):
        for line in self.process.stdout:
            if line.startswith("Ready in"):
                self.ready.set()

    def log(self):
        position = self.stderr.tell()
        self.stderr.seek(0)
        text = self.stderr.read()
        self.stderr.seek(position)
        return text

    def _await(self, condition, what):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.port is None:
                found = re.search(r"Listening on \S+:(\d+)", self.log())
                self.port = int(found.group(1)) if found else None
            if condition():
                return
            if self.process.poll() is not None:
                raise RuntimeError(f"donar ended with {self.process.returncode} before it could {what}:\n{self.log()}")
            time.sleep(0.002)
        raise RuntimeError(f"donar did not {what} in {START_SECONDS} s:\n{self.log()}")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def request(self, method, path, body=None, headers=None, timeout=300):
        """One raw request: (status, headers, text)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            reply = connection.getresponse()
            return reply.status, dict((k.lower(), v) for k, v in reply.getheaders()), reply.read().decode()
        finally:
            connection.close()

    def metrics(self):
        """Sample name (without labels; samples of one name added up) -> value."""
        values = {}
        for line in self.request("GET", "/metrics")[2].splitlines():
            if line and not line.startswith("#"):
                name = line.split("{")[0].split(" ")[0]
                values[name] = values.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
        return values

    def await_idle(self, seconds=30.0):
        """Until nothing runs and every KV block is home; the metrics as they are then."""
        end = time.monotonic() + seconds
        while True:
            now = self.metrics()
            idle = now["vllm:num_requests_running"] == 0 and now["vllm:num_requests_waiting"] == 0
            if idle and now["vllm:kv_cache_usage_perc"] == 0:
                return now
            if time.monotonic() > end:
                raise AssertionError(f"not idle after {seconds} s: {now}")
            time.sleep(0.02)

    def stop(self, seconds=120):
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"donar did not stop in {seconds} s:\n{self.log()}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
