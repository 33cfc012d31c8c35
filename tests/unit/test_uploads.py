"""Which bytes of which request belong where in a source (contract: functions-api 5.7 and 8, clients 3)."""

import pytest

from hearth.control.uploads import ByteRange, parse_content_range, slice_of_part
from hearth.model.refusals import Refusal

MIB5 = 5_242_880


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"bytes 0-{MIB5 - 1}/12000000", ByteRange(0, MIB5 - 1, 12_000_000)),
        ("bytes 0-0/1", ByteRange(0, 0, 1)),
        ("bytes 5-10/10", ByteRange(5, 9, 10)),
    ],
    ids=["first-chunk", "one-byte", "end-equal-to-total"],
)
def test_ranges_that_clients_send_are_understood(text: str, expected: ByteRange) -> None:
    assert parse_content_range(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes 0-1",
        "bytes 2-1/5",
        "bytes 0-9/5",
        "bytes 5-5/5",
        "items 0-1/5",
        "bytes -1-2/5",
        "bytes 0-1/*",
    ],
)
def test_any_other_range_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_content_range(text)
    assert caught.value.type == "storage_invalid_content_range"


def test_a_whole_file_is_taken_as_it_is() -> None:
    assert slice_of_part(300, None) == (0, 300)


def test_a_client_that_sends_the_whole_file_with_each_chunk_gets_the_right_bytes_taken() -> None:
    assert slice_of_part(12_000_000, ByteRange(MIB5, 2 * MIB5 - 1, 12_000_000)) == (MIB5, MIB5)


def test_a_stray_byte_at_the_end_of_a_chunk_is_cut_off() -> None:
    assert slice_of_part(MIB5, ByteRange(0, MIB5 - 2, MIB5 - 1)) == (0, MIB5 - 1)


def test_a_chunk_shorter_than_announced_is_refused_with_both_numbers() -> None:
    with pytest.raises(Refusal, match=r"announces 100 bytes.*holds 99"):
        slice_of_part(99, ByteRange(0, 99, 200))
