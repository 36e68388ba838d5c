"""The folder of a shop: who may read what, and when it goes."""

import stat
from pathlib import Path

import pytest

from scripts.lib.shop_folder import ShopFolder, passing_folder


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    """The same at each start, one for each name, in a file with mode 0600."""
    secret = ShopFolder(tmp_path).secret("payment")
    assert len(secret) == 64
    assert ShopFolder(tmp_path).secret("payment") == secret
    assert ShopFolder(tmp_path).secret("catalog") != secret
    assert ShopFolder(tmp_path).secret("payment") == secret
    assert _mode(tmp_path / "secrets.json") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_what_is_kept_in_it_is_closed_to_others(tmp_path: Path) -> None:
    """Logs, spans and the ledger; nobody can list the folder itself either."""
    folder = ShopFolder(tmp_path / "new" / "shop")
    folder.prepare()
    assert _mode(folder.path) & 0o066 == 0
    assert {_mode(path) for path in (folder.logs, folder.spans, folder.ledger.parent)} == {0o700}


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """Whoever names a folder of theirs finds it as it was."""
    tmp_path.chmod(0o755)
    ShopFolder(tmp_path).prepare()
    assert _mode(tmp_path) == 0o755


def test_a_passing_folder_stays_only_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaking off, as Ctrl-C does it, is no failure."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with passing_folder() as folder:
        folder.prepare()
    with pytest.raises(KeyboardInterrupt), passing_folder():
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="no space"), passing_folder() as folder:
        raise OSError("no space")
    assert list(tmp_path.iterdir()) == [folder.path]
