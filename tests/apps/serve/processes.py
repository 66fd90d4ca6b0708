"""Starts a server process, sends it requests over loopback and stops it by its process id."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[3]
SMALL = Path(__file__).with_name("small_server.py")
PATIENCE_SECONDS = 240  # a busy machine needs as long to import torch
ADDRESS = re.compile(r"http://[\w.:\[\]]+")


class Server:
    def __init__(self, process, url):
        self.process, self.url = process, url
        self.pid = process.pid

    def ask(self, method, path, body=None, headers=(), timeout=60):
        """Status, headers and body, parsed if it is JSON."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)
        with contextlib.closing(connection):
            given = {"Content-Type": "application/json", **dict(headers)}
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, body=data, headers=given)
            response = connection.getresponse()
            raw = response.read()
            if raw and response.headers.get_content_type() == "application/json":
                return response.status, response.headers, json.loads(raw)
            return response.status, response.headers, raw.decode()

    def post(self, path, body, **more):
        return self.ask("POST", path, body, **more)

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def stop(self, number=signal.SIGTERM):
        """The exit code and stderr after a signal."""
        if self.process.poll() is None:
            os.kill(self.pid, number)
        _, stderr = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, stderr


@contextlib.contextmanager
def started(command, stream="stdout", **environment):
    """A server whose address is the first on its stdout or stderr."""
    path = os.pathsep.join((os.environ.get("PYTHONPATH") or str(ROOT), str(ROOT / "tests" / "fakes")))
    settings = {**os.environ, "PYTHONPATH": path, **environment}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=settings
    )
    giving_up = threading.Timer(PATIENCE_SECONDS, process.kill)
    giving_up.start()
    try:
        lines = []
        for line in getattr(process, stream):
            lines.append(line)
            if match := ADDRESS.search(line):
                break
        else:
            _, stderr = process.communicate()
            raise AssertionError(f"the server did not start: {''.join(lines)}{stderr}")
        giving_up.cancel()
        yield Server(process, match.group())
    finally:
        giving_up.cancel()
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
        for pipe in (process.stdout, process.stderr):
            pipe.close()


def small_server(*flags, **environment):
    return started([sys.executable, str(SMALL), *map(str, flags)], **environment)
