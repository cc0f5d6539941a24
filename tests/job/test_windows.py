import pytest
from hypothesis import given
from hypothesis import strategies as st

from stvsr_cli.errors import UsageError
from stvsr_cli.job.windows import TileConfig, WindowConfig, num_windows, tile_starts, tiles, windowed

CONFIGS = st.integers(2, 20).flatmap(
    lambda size: st.builds(WindowConfig, size=st.just(size), overlap=st.integers(1, size - 1))
)


@given(count=st.integers(0, 120), config=CONFIGS)
def test_every_frame_is_new_in_exactly_one_window(count, config):
    assert [f for span, frames in windowed(range(count), config) for f in frames[span.lead :]] == list(range(count))


@given(count=st.integers(1, 120), config=CONFIGS)
def test_every_pair_lies_inside_a_window(count, config):
    pairs = {p for _, frames in windowed(range(count), config) for p in zip(frames, frames[1:], strict=False)}
    assert pairs == {(k, k + 1) for k in range(count - 1)}


@given(count=st.integers(1, 120), config=CONFIGS)
def test_spans_say_where_their_frames_lie(count, config):
    spans = []
    for span, frames in windowed(range(count), config):
        assert frames == list(range(span.start, span.stop))
        assert len(frames) <= config.size
        spans.append(span)
    assert [s.last for s in spans] == [False] * (len(spans) - 1) + [True]
    assert [s.lead for s in spans] == [0] + [config.overlap] * (len(spans) - 1)
    assert len(spans) == num_windows(count, config)


def test_windows_come_as_soon_as_their_frames_are_there():
    read = []

    def source():
        for k in range(100):
            read.append(k)
            yield k

    stream = windowed(source(), WindowConfig(size=5, overlap=2))
    next(stream)
    assert len(read) == 6


@pytest.mark.parametrize(("size", "overlap"), [(1, 1), (4, 0), (4, 4), (4, 9)])
def test_impossible_windows_are_refused(size, overlap):
    with pytest.raises(UsageError):
        WindowConfig(size=size, overlap=overlap)


@given(length=st.integers(1, 400), size=st.integers(0, 200), data=st.data())
def test_tile_starts_cover_without_gap_and_share_enough(length, size, data):
    overlap = data.draw(st.integers(0, size // 2))
    starts = tile_starts(length, size, overlap)
    side = size if 0 < size < length else length
    assert starts[0] == 0 and starts[-1] + side == length
    assert all(a + side - b >= overlap for a, b in zip(starts, starts[1:], strict=False))


@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.integers(0, 40), overlap=st.integers(0, 20))
def test_tiles_cover_every_pixel_and_have_one_shape(height, width, size, overlap):
    config = TileConfig(size_px=size, overlap_px=min(overlap, size // 2))
    plan = tiles(height, width, config)
    covered = {(y, x) for t in plan for y in range(t.top, t.top + t.height) for x in range(t.left, t.left + t.width)}
    assert covered == {(y, x) for y in range(height) for x in range(width)}
    assert len({(t.height, t.width) for t in plan}) == 1


def test_a_tile_smaller_than_its_overlaps_is_refused():
    with pytest.raises(UsageError, match="too small"):
        TileConfig(size_px=30, overlap_px=16)
