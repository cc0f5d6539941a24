"""Lines with labels on a narrow terminal."""

from hypothesis import given
from hypothesis import strategies as st

from stvsr_cli.cli.wrapped import fitted


@given(words=st.lists(st.text("abc/.", min_size=1, max_size=12), min_size=1, max_size=40), columns=st.integers(40, 100))
def test_lines_fit_and_no_word_is_lost(words: list[str], columns: int) -> None:
    lines = fitted("label     " + " ".join(words), columns, 10).splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("label     ") and all(line.startswith(" " * 10) for line in lines[1:])
    assert " ".join(line[10:] for line in lines).split() == words


def test_a_path_stays_whole() -> None:
    path = "/a" * 60
    assert path in fitted(f"input     {path}", 80, 10)
