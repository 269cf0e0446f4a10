"""Starts and stops `donar serve` for the scripts beside this one, and talks to it. Standard library only."""

import http.client
import json
import pathlib
import signal
import socket
import subprocess
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """`with Server(donar, [model, flags...], log) as server:` is a server that answers /health with 200."""

    def __init__(self, donar, args, log, timeout_s=300):
        self.log, self.port = pathlib.Path(log), free_port()
        command = [str(donar), "serve", *map(str, args), "--port", str(self.port)]
        begin = time.monotonic()
        with self.log.open("w") as out:
            out.write(" ".join(command) + "\n")
            out.flush()
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            self._wait(begin + timeout_s)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.start_s = time.monotonic() - begin  # from exec to the first 200

    def _wait(self, deadline):
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server is not ready in time:\n{self.tail()}")
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.002)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _request(self, method, path, body=None, timeout_s=5):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path):
        return self._request("GET", path)

    def post(self, path, body, timeout_s=600):
        status, text = self._request("POST", path, json.dumps(body), timeout_s)
        if status != 200:
            raise RuntimeError(f"{path} answers {status}: {text[:300]!r}")
        return json.loads(text)

    def complete(self, body):
        return self.post("/v1/completions", body)

    def metrics(self, name):
        """Values of a metric by the text of its labels."""
        lines = self.get("/metrics")[1].decode().splitlines()
        found = (line.rpartition(" ") for line in lines if line.split("{")[0].split(" ")[0] == name)
        return {labels[len(name) :]: float(value) for labels, _, value in found}

    def tail(self, lines=20):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, timeout_s=30):
        """The exit code; of a server that does not end by itself -9."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -9

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
