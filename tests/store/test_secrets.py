"""The key file and the cipher (isolation cases S1 and S2)."""

import threading
from pathlib import Path

import pytest

from hearth.auth.secrets import KEY_BYTES, KeyFileRefused, Undecipherable, VariableCipher, load_or_create_key


def test_the_first_start_makes_a_private_key_and_later_ones_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "variables.key"
    key = load_or_create_key(path, may_create=True)
    assert len(key) == KEY_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_key(path, may_create=False) == key
    assert load_or_create_key(path, may_create=True) == key
    assert [entry.name for entry in path.parent.iterdir()] == ["variables.key"]


def test_servers_that_start_at_once_end_up_with_one_key(tmp_path: Path) -> None:
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(load_or_create_key(tmp_path / "k", may_create=True)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_a_missing_key_is_not_replaced_while_data_exists(tmp_path: Path) -> None:
    with pytest.raises(KeyFileRefused, match="missing"):
        load_or_create_key(tmp_path / "k", may_create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "k"
    key = load_or_create_key(path, may_create=True)
    path.chmod(mode)
    with pytest.raises(KeyFileRefused, match="chmod 600"):
        load_or_create_key(path, may_create=True)
    assert path.read_bytes() == key


@pytest.mark.parametrize("content", [b"", b"short", bytes(KEY_BYTES + 1)])
def test_a_key_of_a_wrong_length_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileRefused, match="exactly 32 bytes"):
        load_or_create_key(path, may_create=True)
    assert path.read_bytes() == content


def test_a_key_that_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    with pytest.raises(KeyFileRefused):
        load_or_create_key(folder, may_create=True)
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileRefused, match="missing"):
        load_or_create_key(dangling, may_create=True)


@pytest.mark.parametrize("text", ["", "value", "ä\x00\U0001f600", "\ud800"])
def test_what_was_sealed_opens_with_the_same_key_and_context_only(text: str) -> None:
    cipher = VariableCipher(bytes(KEY_BYTES))
    blob = cipher.seal(text, b"p/f/v")
    assert cipher.open(blob, b"p/f/v") == text
    assert blob != cipher.seal(text, b"p/f/v")
    changed = blob[:-1] + bytes([blob[-1] ^ 1])
    for bad, context in ((blob, b"p/f/w"), (changed, b"p/f/v"), (b"", b"p/f/v"), (b"\x02" + blob[1:], b"p/f/v")):
        with pytest.raises(Undecipherable):
            cipher.open(bad, context)
    with pytest.raises(Undecipherable):
        VariableCipher(b"x" * KEY_BYTES).open(blob, b"p/f/v")


def test_a_sealed_text_does_not_show_in_its_blob() -> None:
    assert b"secret" not in VariableCipher(bytes(KEY_BYTES)).seal("secret" * 10, b"")
