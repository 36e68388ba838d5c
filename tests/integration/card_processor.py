"""A real card processor in a process of its own, for tests that call it or look into its ledger."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

ROOT = Path(__file__).parents[2]
API_KEY = "key-that-must-not-be-logged"
SLOW_SECONDS = 0.2
WAIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: its status and its JSON body."""

    status: int
    body: dict[str, Any]


class Processor:
    """A card processor in a process of its own, and calls to it, each on a fresh connection.

    As a context manager it ends with its block, by SIGTERM or, where that was done already, by whatever stopped it.
    """

    def __init__(self, folder: Path, slow_seconds: float = SLOW_SECONDS, listen: str = "127.0.0.1:0") -> None:
        """Start it on the ledger in `folder` and wait until it has printed its address."""
        self._stderr = folder / f"stderr-{uuid4()}"
        prefix = "LIBRETTO_CARD_PROCESSOR_"
        settings = {
            f"{prefix}LISTEN": listen,
            f"{prefix}LEDGER": str(folder / "ledger.sqlite"),
            f"{prefix}API_KEY": API_KEY,
            f"{prefix}SLOW_SECONDS": str(slow_seconds),
        }
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.outside.card_processor"],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], **settings},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], WAIT_SECONDS)
        self.address = self.process.stdout.readline().strip() if ready else ""
        if not self.address:
            self.stop(signal.SIGKILL)
        assert self.address, f"the processor did not start: {self.errors()}"

    def __enter__(self) -> Self:
        """Begin the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process."""
        self.stop()

    def connect(self) -> HTTPConnection:
        """Open a connection."""
        if not self.address.startswith("unix:"):
            return HTTPConnection(self.address, timeout=WAIT_SECONDS)
        connection = HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(WAIT_SECONDS)
        connection.sock.connect(self.address.removeprefix("unix:"))
        return connection

    def call(self, method: str, path: str, body: object = None, key: str = f"Bearer {API_KEY}") -> Answer:
        """Send a request, JSON unless the body is bytes already; raises ConnectionError where none answers."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, path, content, {"Authorization": key} if key else {})
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        finally:
            connection.close()

    def authorize(self, payment: str, card: str = "tok_succeeds", amount_minor: int = 1250) -> Answer:
        """Ask for an authorisation in euros."""
        body = {"amount_minor": amount_minor, "currency": "EUR", "token": card}
        return self.call("PUT", f"/v1/authorizations/{payment}", body)

    def get(self, payment: str) -> Answer:
        """Ask how an authorisation stands."""
        return self.call("GET", f"/v1/authorizations/{payment}")

    def capture(self, payment: str) -> Answer:
        """Ask for the money."""
        return self.call("POST", f"/v1/authorizations/{payment}/capture")

    def void(self, payment: str) -> Answer:
        """Ask to give the money up."""
        return self.call("POST", f"/v1/authorizations/{payment}/void")

    def effects(self, payment: str) -> list[tuple[str, int]]:
        """Read what was entered in the ledger for a payment: kinds and amounts, in order."""
        entries = self.call("GET", f"/v1/ledger?authorization_id={payment}").body["entries"]
        return [(entry["kind"], entry["amount_minor"]) for entry in entries]

    def errors(self) -> str:
        """Read what the process wrote to its error output."""
        return self._stderr.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, unless it has ended, and wait; returns the exit code, negative if a signal killed it."""
        self.process.send_signal(number)
        try:
            return self.process.wait(WAIT_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
