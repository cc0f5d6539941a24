"""A video looked over in chunks gives what reading it in one go gives, or says that it cannot."""

from dataclasses import replace

import pytest

from stvsr_cli.media.read.clip import ClipFile, cut_clip, seeks
from stvsr_cli.media.read.glances import chunks_of, joined_moments, look_over
from stvsr_cli.media.read.moments import Differs, moments, stretch_frames
from stvsr_cli.media.read.probe import probe
from tests.clips import make_video, pattern

FILES = [
    ("libx264", ".mp4", {"g": "8", "bf": "3", "x264-params": "open-gop=1"}),
    ("libx264", ".ts", {"g": "12", "bf": "2"}),
    ("libx264", ".mp4", {"g": "20", "x264-params": "intra-refresh=1"}),
    ("libx265", ".mkv", {"x265-params": "log-level=error:keyint=8:open-gop=1"}),
    ("mpeg2video", ".mpg", {"g": "6", "bf": "2"}),
    ("libvpx-vp9", ".mkv", {"g": "8"}),
]


@pytest.fixture(params=FILES, ids=[f"{codec}{suffix}{len(options)}" for codec, suffix, options in FILES])
def info(request, tmp_path):
    """Two shots with a flash in the second."""
    codec, suffix, options = request.param
    pictures = [pattern(7 * i, 64, 48)[:, :, [0, 1, 2] if i < 23 or i == 40 else [2, 0, 1]] for i in range(60)]
    return probe(make_video(tmp_path / f"in{suffix}", pictures, codec=codec, options=options))


def known(info, mode="hold"):
    return list(moments(info, start=None, end=None, threads=1, mode=mode))


def test_times_that_a_file_does_not_say_are_no_trap(tmp_path):
    pictures = [pattern(7 * i, 64, 48) for i in range(60)]
    info = probe(make_video(tmp_path / "in.avi", pictures, codec="mpeg4", options={"g": "5", "bf": "2"}))
    chunks = chunks_of(info, 10)
    if chunks is not None:
        with pytest.raises(Differs):
            list(joined_moments(chunks, (look_over(info, c) for c in chunks), mode="hold"))


@pytest.mark.parametrize("mode", ["hold", "ignore"])
def test_chunks_give_what_one_go_gives(info, mode):
    chunks = chunks_of(info, 10)
    assert len(chunks) > 2 and all(chunk.num_shared >= 2 for chunk in chunks[1:])
    assert list(joined_moments(chunks, (look_over(info, c) for c in chunks), mode=mode)) == known(info, mode)


def test_a_chunk_that_does_not_go_on_is_noticed(info):
    chunks = chunks_of(info, 10)
    found = [look_over(info, chunk) for chunk in chunks]
    found[1][0] = replace(found[1][0], check=1)
    with pytest.raises(Differs, match="keyframe"):
        list(joined_moments(chunks, found, mode="hold"))


def test_frames_that_are_not_there_are_noticed(info):
    chunk = chunks_of(info, 10)[1]
    for wrong in (chunk.stamps[:5] + chunk.stamps[6:], (*chunk.stamps[:-1], chunk.stamps[-1] + 10**9)):
        with pytest.raises(Differs):
            look_over(info, replace(chunk, stamps=wrong))


@pytest.mark.parametrize("info", [file for file in FILES if "intra-refresh" not in str(file)], indirect=True)
@pytest.mark.parametrize("place", [(0, 20), (1, 9), (13, 31), (41, 60)])
def test_a_stretch_is_read_the_same_by_itself(info, place):
    first, stop = place
    every = known(info)
    head, clip = cut_clip(info, every[first].pts, every[stop - 1].pts)
    size = sum(len(data) for _, data in (*head, *clip.parts))
    assert size <= 2 * info.path.stat().st_size
    for tries, file in ((seeks(info, every[first].pts), None), (clip.seeks, ClipFile(clip, head))):
        assert read(info, every[first:stop], first, tries, file) == list(range(first, stop))


def read(info, moments, first, tries, file):
    """Numbers of the frames that are read, at the first try that does."""
    for seek in tries:
        try:
            return [frame.index for frame in stretch_frames(info, moments, first, threads=1, seek=seek, file=file)]
        except Differs:
            continue
    return []
