"""The isolation report: a case is as good as its worst test, and what was written can be added to."""

from tests.sandbox.report import Row, merged, rows_of, text_of


def row(test: str, result: str = "passed", seen: str = "") -> Row:
    return Row(("F1", "P2"), "ns root", "run", test, result, seen, 1.25)


def test_a_case_passes_only_if_every_test_of_it_does() -> None:
    passed, failed = row("test_F1_P2_a[ns root]"), row("test_F1_P2_b[ns root]", "failed")
    assert "| F1 | passed (1) |" in text_of([passed], "here")
    assert "| F1 | **failed** |" in text_of([passed, failed], "here")
    assert "| F3 | not run |" in text_of([passed], "here")


def test_rows_are_read_back_as_written_and_replaced_by_newer_ones() -> None:
    rows = [row("test_F1_P2_a[ns root]", seen='a | b: {"x": "\\n|"}'), row("test_F1_P2_b[ns root]", "failed")]
    assert rows_of(text_of(rows, "here")) == rows
    again = row("test_F1_P2_b[ns root]")
    assert merged(rows, [again]) == [rows[0], again]
    assert rows_of("") == []
