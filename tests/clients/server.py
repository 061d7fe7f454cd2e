"""A `fewron serve` process on a free port."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

FEWRON = os.environ.get("FEWRON", "fewron")
MODEL = os.environ.get("FEWRON_MODEL", "smollm2")
NAME = "model"
# Seconds; long enough for anything here, however slow the machine.
PATIENCE = 120


class Server:
    """Starts with the block and ends after it, by SIGTERM and with exit code 0."""

    def __init__(self, *arguments, prefix=(), model=MODEL, environment=None):
        command = [*prefix, FEWRON, "serve", model, "--name", NAME, "--port", "0", *arguments]
        self.log = tempfile.TemporaryFile("w+")
        environment = {**os.environ, "FEWRON_RUNS": "off", **(environment or {})}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment
        )
        line = self.process.stdout.readline()
        found = re.fullmatch(rf"Serving {NAME} at (http://\S+)\n", line)
        if not found:
            raise RuntimeError(f"{command} said {line!r} and {self.said()}")
        self.url = found[1]
        self.host, port = self.url.removeprefix("http://").split(":")
        self.port = int(port)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.end() if self.process.poll() is None else 0
        said = self.said()
        self.log.close()
        if kind is None and code != 0:
            raise AssertionError(f"exit code {code}: {said}")

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def signal(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self):
        """Signals the end and waits for the exit code."""
        self.signal()
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return code

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as reply:
            return json.load(reply)

    def status(self):
        return self.get("/fewron/status")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def wait(what, done):
    """Waits until something is so."""
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            raise AssertionError(f"waited too long for {what}")
        time.sleep(0.05)
