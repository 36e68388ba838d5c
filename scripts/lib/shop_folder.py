"""The folder of a running shop: the database's files, logs, spans, the card processor's ledger, and secrets."""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.postgres_binaries import make_folder

_KEY_BYTES: Final = 32
_FOR_US: Final = 0o700
_ON_THE_WAY: Final = 0o711  # PostgreSQL, which does not run as root, must get to its own folder; names stay hidden.


@dataclass(frozen=True, slots=True)
class ShopFolder:
    """Where a shop keeps what.

    ==========================  ==============================================================
    `postgres/`                 PostgreSQL's own folder, of the account that it runs under
    `logs/<name>.log`           what each process printed
    `spans/<service>.jsonl`     the spans of each service
    `processor/ledger.sqlite`   what the card processor, an outside party, has on record
    `secrets.json`              keys, made when they are first asked for
    ==========================  ==============================================================
    """

    path: Path

    def prepare(self) -> None:
        """Make the folder and those in it, closed to others; what is there already stays as it is. Raises OSError."""
        make_folder(self.path.parent)
        with suppress(FileExistsError):
            self.path.mkdir()
            self.path.chmod(_mode())
        for folder in (self.logs, self.spans, self.ledger.parent):
            folder.mkdir(mode=_FOR_US, exist_ok=True)

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.path / "postgres"

    @property
    def logs(self) -> Path:
        """The folder of the logs."""
        return self.path / "logs"

    @property
    def spans(self) -> Path:
        """The folder of the span files."""
        return self.path / "spans"

    @property
    def ledger(self) -> Path:
        """The card processor's ledger."""
        return self.path / "processor" / "ledger.sqlite"

    def secret(self, name: str) -> str:
        """Return the secret of that name: random, the same at each start, in a file that only its owner reads."""
        file = self.path / "secrets.json"
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        if name not in known:
            known[name] = secrets.token_hex(_KEY_BYTES)
            _write_privately(file, json.dumps(known, indent=2))
        return known[name]


@contextmanager
def passing_folder() -> Iterator[ShopFolder]:
    """Make a folder that goes when the block ends well or is broken off; after a failure it stays, to be looked at."""
    folder = ShopFolder(Path(tempfile.mkdtemp(prefix="libretto-")).resolve())
    folder.path.chmod(_mode())
    failed = False
    try:
        yield folder
    except Exception:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(folder.path)


def _mode() -> int:
    return _ON_THE_WAY if os.geteuid() == 0 else _FOR_US


def _write_privately(file: Path, content: str) -> None:
    """Write a file that only its owner may read; a crash leaves the old one or the new one."""
    partial = file.with_name(file.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    partial.rename(file)
