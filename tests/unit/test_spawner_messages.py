"""The spawner follows only messages within its bounds: the API process is the less trusted side."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.executor.sandbox.config import SpawnerConfig, spawner_config, to_json
from hearth.executor.sandbox.messages import (
    MESSAGE_BYTES,
    BadMessage,
    data_path,
    decode,
    encode,
    mount_message,
    mount_request,
    retune_message,
    retune_request,
    start_message,
    start_request,
)
from hearth.executor.sandbox.spec import Limits, Mount, Network, Profile, SandboxSpec

CONFIG = SpawnerConfig("/srv/data", 1_000, 1_000, ("/opt/node", "/srv/hearth/shims"))
SPEC = SandboxSpec(
    id="run-1",
    profile=Profile.RUN,
    argv=("/usr/bin/python3", "-c", "print('ü')"),
    environment={"A": "1"},
    limits=Limits(128 << 20, 0.5),
    mounts=(
        Mount("/srv/data/code/1", "/mnt/code"),
        Mount("/opt/node", "/opt/runtimes/node"),
        Mount("/srv/hearth/shims/x.py", "/usr/local/server/x.py"),
        Mount("/srv/data/work", "/mnt/out", True),
    ),
    network=Network.GATE,
    descriptors={5: 0, 7: 0},
    mount_point="/mnt/later",
    root="/opt/node/root",
)


def message(**changes: Any) -> dict[str, Any]:
    """A good start message with some fields replaced; a `limits` change is merged."""
    made = decode(encode(start_message(1, SPEC, ["10.0.0.0/8"])))
    limits = changes.pop("limits", None)
    if limits is not None:
        made["limits"] |= limits
    return made | changes


def test_a_spec_survives_the_way() -> None:
    request = start_request(message(), CONFIG, 4)
    assert request.numbers == (5, 7)
    assert request.opened == ((b"\x0a\0\0\0", 8),)
    for name in (
        *("id", "profile", "argv", "environment", "limits", "mounts"),
        *("network", "working_folder", "channel", "mount_point", "root"),
    ):
        assert getattr(request.spec, name) == getattr(SPEC, name)


def test_a_configuration_survives_the_way() -> None:
    assert spawner_config(to_json(CONFIG)) == CONFIG


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 16])
def test_the_descriptors_must_be_as_many_as_announced(count: int) -> None:
    with pytest.raises(BadMessage, match="as many"):
        start_request(message(), CONFIG, count)


@pytest.mark.parametrize(
    "changes",
    [
        {"root": "/etc"},
        {"root": "/opt/../etc"},
        {"root": None},
        {"mount_point": "/etc"},
        {"mount_point": "/mnt/../etc"},
        {"mount_point": "/mnt/code"},
        {"mount_point": "/mnt"},
        {"mount_point": None},
        {"id": "../x"},
        {"id": "A"},
        {"id": ""},
        {"id": "x" * 61},
        {"id": "x\n"},
        {"id": None},
        {"profile": "root"},
        {"network": "host"},
        {"argv": []},
        {"argv": ["python3"]},
        {"argv": ["/usr/../bin/x"]},
        {"argv": ["/bin/sh", "a\0b"]},
        {"argv": ["/bin/sh", 1]},
        {"argv": "/bin/sh"},
        {"environment": {"A=B": "1"}},
        {"environment": {"": "1"}},
        {"environment": {"A": "1\0"}},
        {"environment": {"A": 1}},
        {"environment": []},
        {"limits": {"memory_bytes": 0}},
        {"limits": {"memory_bytes": 2**50}},
        {"limits": {"memory_bytes": "1"}},
        {"limits": {"memory_bytes": True}},
        {"limits": {"cpus": 0}},
        {"limits": {"cpus": float("nan")}},
        {"limits": {"pids": -1}},
        {"limits": {"pids": 1.5}},
        {"limits": {"tmp_bytes": -5}},
        {"limits": {"open_files": 2**40}},
        {"limits": {"file_size_bytes": -1}},
        {"limits": {"more": 1}},
        {"working_folder": "tmp"},
        {"working_folder": "/mnt/../etc"},
        {"descriptors": [3, 4]},
        {"descriptors": [5, 5]},
        {"descriptors": [5, 64]},
        {"channel": 1},
        {"opened": ["10.0.0.0/33"]},
        {"opened": ["fd00::/8"]},
        {"opened": ["10.0.0.0"]},
        {"opened": ["0.0.0.0/0"] * 257},
        {"unknown": 1},
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
def test_a_field_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        start_request(message(**changes), CONFIG, 4)


@pytest.mark.parametrize(
    "mount",
    [
        ["/etc", "/mnt/x", False],
        ["/srv/data2/x", "/mnt/x", False],
        ["/srv/data", "/mnt/x", True],
        ["/srv/data", "/mnt/x", False],
        ["/srv/data/../../etc", "/mnt/x", False],
        ["/srv/data/./x", "/mnt/x", False],
        ["//srv/data/x", "/mnt/x", False],
        ["/srv/data//x", "/mnt/x", False],
        ["/opt/node", "/mnt/x", True],
        ["/opt/node/../x", "/mnt/x", False],
        ["/opt/node2", "/mnt/x", False],
        ["/srv/data/x", "/etc", False],
        ["/srv/data/x", "/", False],
        ["/srv/data/x", "/usr", False],
        ["/srv/data/x", "/usr/localx", False],
        ["/srv/data/x", "/mnt/../etc", False],
        ["/srv/data/x", "/tmp/x", False],
        ["/srv/data/x", "/mnt/x", 1],
        ["/srv/data/x", "/mnt/x"],
        ["/srv/data/x\0", "/mnt/x", False],
        "x",
    ],
)
def test_a_mount_outside_the_allowed_folders_is_refused(mount: Any) -> None:
    with pytest.raises(BadMessage):
        start_request(message(mounts=[mount]), CONFIG, 4)


@pytest.mark.parametrize(
    "path", ["/srv/data", "/srv/data/", "/srv/data/a/..", "/srv/datax/a", "/etc", "a", "", None, 3]
)
def test_only_what_is_below_the_data_folder_may_be_deleted(path: Any) -> None:
    assert data_path("/srv/data/a", CONFIG, "path") == "/srv/data/a"
    with pytest.raises(BadMessage):
        data_path(path, CONFIG, "path")


def test_a_message_too_large_for_a_datagram_is_refused_by_its_sender() -> None:
    with pytest.raises(BadMessage, match="bytes"):
        encode({"a": "x" * MESSAGE_BYTES})


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_junk_is_refused_and_never_raises_anything_else(data: bytes) -> None:
    try:
        start_request(decode(data), CONFIG, 0)
    except BadMessage:
        return
    raise AssertionError("junk was followed")


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(sorted(message())),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=20),
            lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=9), x, max_size=4),
            max_leaves=8,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_strange_values_are_refused_or_followed_and_never_raise_anything_else(changes: dict[str, Any]) -> None:
    try:
        start_request(message() | changes, CONFIG, 4)
    except BadMessage:
        return


def test_what_is_mounted_later_is_checked_as_at_the_start() -> None:
    good = {"seq": 1, **mount_message("run-1", Mount("/srv/data/code/1", "/mnt/later"))}
    assert mount_request(good, CONFIG) == ("run-1", Mount("/srv/data/code/1", "/mnt/later"))
    for mount in (
        ["/etc", "/mnt/later", False],
        ["/srv/data/../x", "/mnt/later", False],
        ["/srv/data/code/1", "/etc", False],
        ["/srv/data/code/1", "/mnt/later", True],
        ["/srv/data/code/1", "/mnt/later"],
        None,
    ):
        with pytest.raises(BadMessage):
            mount_request(good | {"mount": mount}, CONFIG)
    for changes in ({"id": "X"}, {"extra": 1}):
        with pytest.raises(BadMessage):
            mount_request(good | changes, CONFIG)


def test_limits_are_checked_at_a_change_as_at_the_start() -> None:
    good = {"seq": 1, **retune_message("run-1", Limits(128 << 20, 0.5))}
    assert retune_request(good) == ("run-1", Limits(128 << 20, 0.5))
    for limits in ({}, good["limits"] | {"cpus": 0}, good["limits"] | {"memory_bytes": 1}, None):
        with pytest.raises(BadMessage):
            retune_request(good | {"limits": limits})
