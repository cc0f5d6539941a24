"""A file says how it was made, where its container can, and no other file is taken for such a one."""

from hypothesis import given
from hypothesis import strategies as st

from stvsr_cli.media.record import Record, parse_record, read_record, record_in, sign
from tests.clips import make_video, pattern


def clip(path, **more):
    return make_video(path, [pattern(i, 32, 32) for i in range(3)], **more)


def test_files_of_others_carry_none(tmp_path):
    (tmp_path / "notes.mp4").write_text("stvsr {}")
    assert read_record(tmp_path / "notes.mp4") is None
    assert read_record(tmp_path / "missing.mp4") is None
    assert read_record(clip(tmp_path / "a.mkv", metadata={"STVSR": "{}", "comment": "stvsr is fine"})) is None


words = st.dictionaries(st.text(min_size=1), st.text(), max_size=3)


@given(st.builds(Record, version=st.text(), model=st.text(), weights=st.text(), device=st.text(), precision=st.text(),
                 options=words), words, st.sampled_from(["mp4", "matroska", "avi", "mpegts"]))  # fmt: skip
def test_any_record_survives_any_tags(record, tags, container):
    tags = {name: text for name, text in tags.items() if name.upper() != "STVSR"}
    sign(tags, container, record)
    assert record_in(tags) == (None if container == "mpegts" else record)
    sign(tags, container, None)
    assert record_in(tags) is None


@given(st.text())
def test_any_text_is_a_record_or_none(text):
    found = parse_record(text)
    assert found is None or parse_record(found.as_json()) == found
