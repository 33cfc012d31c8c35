"""Log streams are bounded and end in the documented form (contract: functions-api 10.6)."""

from hearth.executor.logs import LOG_MAX_CHARS, LogTail, decode


def test_text_ends_with_a_newline_and_lines_start_on_their_own() -> None:
    tail = LogTail()
    tail.add(b"half")
    tail.add_line(b"line\n")
    tail.add(b"rest")
    assert tail.text("Logs") == "half\nline\nrest\n"
    assert LogTail().text("Logs") == ""


def test_exactly_the_limit_is_not_truncated() -> None:
    tail = LogTail()
    tail.add(b"x" * (LOG_MAX_CHARS - 1) + b"\n")
    assert tail.text("Logs") == "x" * (LOG_MAX_CHARS - 1) + "\n"


def test_over_the_limit_the_end_is_kept_and_the_total_is_the_limit() -> None:
    tail = LogTail()
    tail.add(b"first\n" + b"x" * LOG_MAX_CHARS + b"last\n")
    text = tail.text("Errors")
    assert text.startswith("[WARNING] Errors truncated. The output exceeded 1000000 characters.\nx")
    assert text.endswith("xlast\n")
    assert len(text) == LOG_MAX_CHARS


def test_characters_count_and_not_bytes() -> None:
    tail = LogTail()
    tail.add("👋".encode() * (LOG_MAX_CHARS - 1))
    assert tail.text("Logs") == "👋" * (LOG_MAX_CHARS - 1) + "\n"


def test_memory_is_bounded_whatever_comes_in() -> None:
    tail = LogTail()
    for _ in range(20):
        tail.add(b"y" * 1_000_000)
    tail.add(b"z")
    assert len(tail._data) <= 5 * 2**20 + 1_000_000
    assert tail.text("Logs").endswith("yz\n")
    assert tail.text("Logs").startswith("[WARNING] Logs truncated.")


def test_any_bytes_become_text_a_database_can_hold() -> None:
    assert decode(b"a\xff\0b\xe2\x82") == "a\ufffd\ufffdb\ufffd"
