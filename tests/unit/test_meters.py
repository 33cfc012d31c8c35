"""Counters of a sandbox's control groups, in the layouts there are (hearth.executor.sandbox.meters)."""

from pathlib import Path

import pytest

from hearth.executor.sandbox.cgroups import Group
from hearth.executor.sandbox.meters import GroupMeter, open_meters
from tests.support.leftovers import open_below

V2_CPU = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n"
V1_THROTTLING = "nr_periods 3\nnr_throttled 0\nthrottled_time 0\n"


def group(root: Path, files: dict[str, str], inner: tuple[str, ...] = ()) -> Group:
    """The group of a sandbox with these files, by folder and name."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folders = sorted({str((root / name).parent) for name in files})
    names = {str(root / each) for each in inner}
    return Group(tuple(each for each in folders if each not in names), inner=tuple(names))


LAYOUTS = {
    "v2": {"box/cpu.stat": V2_CPU, "box/memory.peak": "4096\n"},
    "v1": {
        "cpu/cpu.stat": V1_THROTTLING,
        "cpuacct/cpuacct.usage": "2500000000\n",
        "memory/memory.max_usage_in_bytes": "4096\n",
    },
    "hybrid": {
        "cpu/cpu.stat": V1_THROTTLING,
        "unified/cpu.stat": V2_CPU,
        "memory/memory.max_usage_in_bytes": "4096\n",
        "pids/pids.max": "10\n",
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_used_is_read_in_every_layout(layout: str, tmp_path: Path) -> None:
    found = open_meters(group(tmp_path, LAYOUTS[layout]))
    meter = GroupMeter(list(found), list(found.values()))
    assert (meter.cpu_s(), meter.peak_memory_bytes()) == (2.5, 4096)
    for path in tmp_path.rglob("c*.*"):
        path.write_text("usage_usec 3000000\nuser_usec 1\n" if path.name == "cpu.stat" else "3000000000\n")
    assert meter.cpu_s() == 3.0, "the same file again, from its beginning"
    meter.close()
    meter.close()
    assert (meter.cpu_s(), meter.peak_memory_bytes()) == (None, None)


def test_what_a_machine_does_not_count_is_not_told(tmp_path: Path) -> None:
    found = open_meters(group(tmp_path, {"cpu/cpu.stat": V1_THROTTLING, "pids/pids.max": "10\n"}))
    assert found == {}
    meter = GroupMeter([], [])
    assert (meter.cpu_s(), meter.peak_memory_bytes()) == (None, None)


def test_of_several_groups_that_count_the_one_with_the_processes_is_read(tmp_path: Path) -> None:
    files = {
        "unified/box/cpu.stat": "usage_usec 0\n",
        "memory/box/memory.max_usage_in_bytes": "5\n",
        "memory/box/runc/memory.max_usage_in_bytes": "9\n",
        "cpuacct/runc/cpuacct.usage": "7000000000\n",
        "unified/runc/cpu.stat": "usage_usec 7000000\n",
    }
    found = open_meters(group(tmp_path, files, ("memory/box/runc", "cpuacct/runc", "unified/runc")))
    meter = GroupMeter(list(found), list(found.values()))
    assert (meter.cpu_s(), meter.peak_memory_bytes()) == (7.0, 9)
    meter.close()


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        found = open_meters(group(tmp_path / layout, LAYOUTS[layout]))
        assert open_below(tmp_path) != []
        GroupMeter(list(found), list(found.values())).close()
        assert open_below(tmp_path) == []
