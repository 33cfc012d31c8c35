"""The parts of a backup without a server: the archive, the passphrase, what belongs to a project, sealed columns."""

import io
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from hearth.auth import passphrases
from hearth.auth.passphrases import WrongPassphrase, open_with_passphrase, seal_with_passphrase
from hearth.auth.secrets import VariableCipher
from hearth.cli.backup import PASSPHRASE_ENV, read_passphrase
from hearth.store.archive import (
    FORMAT,
    ArchiveReader,
    ArchiveWriter,
    BackupRefused,
    Manifest,
    RowWriter,
    StoredFile,
    TableParts,
)
from hearth.store.belongings import Belongings
from hearth.store.sql.sealed import SEALED, resealed, unknown_blobs

ROWS = [(number, "text \0 ü", 0.5, True, None, b"\x00\xff") for number in range(3)]
COLUMNS = ("number", "text", "float", "flag", "none", "bytes")


def written(rows: int = 3) -> bytes:
    target = io.BytesIO()
    archive = ArchiveWriter(target)
    table = RowWriter(archive, "things")
    for row in ROWS[:rows]:
        table.add(row)
    table.flush()
    part = archive.add_file(io.BytesIO(b"content and more"), 7)
    archive.finish(
        Manifest(
            format=FORMAT,
            hearth="1",
            schema="0001",
            created_at="now",
            engine="sqlite",
            project="",
            tables=(TableParts("things", COLUMNS, tuple(table.parts)),),
            files=(StoredFile("stored", "sources/p/d", part), StoredFile("stored", "sources/p/e", part)),
            keys=archive.add_keys(b"sealed"),
        )
    )
    return target.getvalue()


def test_an_archive_gives_back_rows_files_and_keys_as_they_were() -> None:
    backup = ArchiveReader(io.BytesIO(written()))
    table = backup.manifest.table("things")
    assert table is not None
    assert [row for part in backup.rows(table) for row in part] == ROWS
    target = io.BytesIO()
    backup.copy(backup.manifest.files[1].part, target)
    assert target.getvalue() == b"content"
    assert backup.manifest.keys is not None
    assert backup.read(backup.manifest.keys) == b"sealed"
    assert sum(backup.verify()) == backup.manifest.size


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_an_archive_that_was_cut_off_is_refused(share: float) -> None:
    data = written()
    with pytest.raises(BackupRefused, match=r"cut off|no backup"):
        ArchiveReader(io.BytesIO(data[: int(len(data) * share) // 2]))


@pytest.mark.parametrize("what", [b"content", b"sealed"])
def test_a_changed_byte_is_found(what: bytes) -> None:
    data = written()
    changed = data.replace(what, what[:-1] + b"X", 1)
    assert changed != data
    with pytest.raises(BackupRefused, match="damaged"):
        list(ArchiveReader(io.BytesIO(changed)).verify())


def test_a_changed_manifest_and_a_later_format_are_refused() -> None:
    changed = written().replace(b'"schema": "0001"', b'"schema": "0009"')
    with pytest.raises(BackupRefused, match="manifest"):
        ArchiveReader(io.BytesIO(changed))
    target = io.BytesIO()
    archive = ArchiveWriter(target)
    manifest = msgspec.structs.replace(ArchiveReader(io.BytesIO(written())).manifest, format=FORMAT + 1)
    archive.finish(manifest)
    with pytest.raises(BackupRefused, match="newer"):
        ArchiveReader(io.BytesIO(target.getvalue()))


def test_a_file_that_became_shorter_is_said() -> None:
    with pytest.raises(BackupRefused, match="shorter"):
        ArchiveWriter(io.BytesIO()).add_file(io.BytesIO(b"abc"), 4)


def test_only_the_right_passphrase_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrases, "_COST", 2**8)  # the real cost is a quarter of a second each
    sealed = seal_with_passphrase(b"keys", "correct horse battery")
    assert open_with_passphrase(sealed, "correct horse battery") == b"keys"
    assert b"keys" not in sealed
    for blob, passphrase in (
        (sealed, "correct horse batterx"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), "correct horse battery"),
        (b"\x02" + sealed[1:], "correct horse battery"),
        (b"", "correct horse battery"),
    ):
        with pytest.raises(WrongPassphrase):
            open_with_passphrase(blob, passphrase)


def test_files_belong_to_the_rows_that_name_them() -> None:
    one = Belongings(is_whole=False)
    one.note("projects", ("sequence", "id"), (1, "p"))
    one.note("deployments", ("id", "source_key", "artifact_key"), ("d", "sources/p/d", "artifacts/a1"))
    one.note("deployments", ("id", "source_key", "artifact_key"), ("unfinished", "", ""))
    one.note("functions", ("id", "runtime"), ("f", "node-22"))
    assert one.runtimes == {"node-22"}
    whole = replace(one, is_whole=True)
    for key, is_of_one, is_of_all in (
        ("sources/p/d", True, True),
        ("artifacts/a1", True, True),
        ("sources/p/unfinished", True, True),
        ("sources/p/deleted", False, False),
        ("artifacts/other", False, False),
        ("bodies/p/e", True, True),
        ("bodies/q/e", False, True),
    ):
        assert (one.include(key), whole.include(key)) == (is_of_one, is_of_all), key


def test_every_column_of_bytes_is_known_to_be_sealed_or_not() -> None:
    assert unknown_blobs() == ["facts.value"], (
        "A new column of bytes: if its values are sealed, say in hearth.store.sql.sealed what they are bound to, "
        "or a project cannot be restored to an installation with another key."
    )


def test_values_are_sealed_anew_for_another_key() -> None:
    old, new = VariableCipher(b"o" * 32), VariableCipher(b"n" * 32)
    row = {"project_id": "p", "id": "v", "resource_type": "function", "resource_id": "f", "key": "K"}
    context = SEALED["variables"]["value"](row)
    moved = resealed("variables", row | {"value": old.seal("text", context)}, old, new)
    assert new.open(moved["value"], context) == "text"
    assert (
        resealed("webhooks", {"project_id": "p", "id": "w", "auth_password": b"", "secret": b""}, old, new)["secret"]
        == b""
    )
    with pytest.raises(ValueError, match="key"):
        resealed("variables", row | {"value": new.seal("text", context)}, old, new)


def test_the_passphrase_is_read_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE_ENV, raising=False)
    with pytest.raises(BackupRefused, match="--without-keys"):
        read_passphrase(None)
    monkeypatch.setenv(PASSPHRASE_ENV, "from the environment")
    assert read_passphrase(None) == "from the environment"
    file = tmp_path / "passphrase"
    file.write_text("from the file\n")
    assert read_passphrase(file) == "from the file"
    file.write_text("short\n")
    with pytest.raises(BackupRefused, match="at least 12"):
        read_passphrase(file)
