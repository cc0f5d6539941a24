from fractions import Fraction

import av
import numpy as np
import pytest

from stvsr_cli.durable.segments import SegmentWriter, extradata, is_whole, joined, read, reorder_delay
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.write.mux import OutputFile, OutputSpec
from stvsr_cli.media.write.settings import EncoderConfig
from tests.clips import beep_times, make_video, pattern, read_frames

PRESETS = {"libx264": "veryfast", "libx265": "ultrafast", "libsvtav1": "12"}
VARIABLE = [0, 1, 2, 30, 31, 33, 34, 90, 91, 92, 100, 130, 131, 132, 133, 134, 200, 201, 202, 203, 204, 290, 300, 310]


def settings(source, codec):
    info = probe(source)
    spec = OutputSpec(width=info.width, height=info.height, pix_fmt="yuv420p", time_base=info.time_base,
                      rate=info.average_rate, color=info.color)  # fmt: skip
    options = (("x265-params", "log-level=none"),) if codec == "libx265" else ()
    return info, spec, EncoderConfig(codec=codec, preset=PRESETS.get(codec), options=options)


def in_segments(source, target, codec, lengths):
    """Write a video in segments of so many frames and join them. Returns the segments and the folder."""
    info, spec, encoder = settings(source, codec)
    frames, made = decode(info), []
    for number, length in enumerate(lengths):
        writer = SegmentWriter(target.with_name(f"{number}.seg"), target, info, spec, encoder)
        for _ in range(length):
            frame = next(frames)
            writer.write(frame.picture, frame.pts, frame.duration)
        made.append(writer.finish())
    paths = [target.with_name(segment.name) for segment in made]
    with OutputFile(target, info, spec, encoder) as out:
        assert all(extradata(path) == out.extradata for path in paths)
        for packet in joined(paths, max(segment.delay for segment in made)):
            out.write_packet(packet)
    return made


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libx264", ".mp4"), ("libx264", ".ts"), ("libx264", ".nut"), ("libx265", ".mp4"), ("libx265", ".mkv"),
     ("ffv1", ".mkv"), ("libsvtav1", ".mp4"), ("libsvtav1", ".mkv"), ("libvpx-vp9", ".mkv"), ("libvpx-vp9", ".mp4"),
     ("libvpx-vp9", ".webm")],
)  # fmt: skip
def test_joined_segments_keep_every_frame_and_time(tmp_path, codec, suffix):
    base = Fraction(1, 1000)
    stamps = [10 * s for s in VARIABLE]
    source = make_video(tmp_path / "in.mp4", [pattern(i, 64, 64) for i in range(24)], stamps=stamps, time_base=base,
                        audio_s=3.2, beeps_s=(0.5, 2.5))  # fmt: skip
    target = tmp_path / f"out{suffix}"
    made = in_segments(source, target, codec, [9, 1, 14])
    pictures, times, _ = read_frames(target)
    assert [segment.num_frames for segment in made] == [9, 1, 14]
    first = times[0] if suffix in (".ts", ".nut") else 0  # these begin later instead of decoding before 0
    assert [t - first for t in times] == [Fraction(s, 1000) for s in stamps]
    originals = read_frames(source)[0]
    assert max(abs(a.astype(int) - b).mean() for a, b in zip(pictures, originals, strict=True)) < 12
    if suffix not in (".ts", ".nut"):
        assert np.allclose(beep_times(target), [0.5, 2.5], atol=0.03)


def test_decoding_times_rise_and_lie_before_showing(tmp_path):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 64, 64) for i in range(24)], stamps=VARIABLE,
                        time_base=Fraction(1, 100))  # fmt: skip
    made = in_segments(source, tmp_path / "out.mp4", "libx264", [9, 15])
    assert max(segment.delay for segment in made) >= 1
    paths = [tmp_path / segment.name for segment in made]
    packets = list(joined(paths, max(segment.delay for segment in made)))
    assert all(a.dts < b.dts for a, b in zip(packets, packets[1:], strict=False))
    assert all(packet.dts <= packet.pts for packet in packets)
    assert [p.pts for p in packets] == [p.pts for path in paths for p in read(path)]
    info = probe(source)
    assert sum(p.duration for p in packets) == sum(frame.duration for frame in decode(info))
    with av.open(str(tmp_path / "out.mp4")) as container:
        keys = [p.pts for p in container.demux(video=0) if p.is_keyframe]
    assert len(keys) == 2


def test_a_segment_that_was_touched_is_not_whole(tmp_path):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 64, 64) for i in range(4)])
    (segment,) = in_segments(source, tmp_path / "out.mp4", "libx264", [4])
    path = tmp_path / segment.name
    assert is_whole(tmp_path, segment)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert not is_whole(tmp_path, segment)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert not is_whole(tmp_path, segment)
    path.unlink()
    assert not is_whole(tmp_path, segment)


def test_an_unfinished_segment_leaves_nothing(tmp_path):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 64, 64) for i in range(4)])
    info, spec, encoder = settings(source, "libx264")
    writer = SegmentWriter(tmp_path / "0.seg", tmp_path / "out.mp4", info, spec, encoder)
    frame = next(decode(info))
    writer.write(frame.picture, frame.pts, frame.duration)
    assert list(tmp_path.glob("*.part")) and not (tmp_path / "0.seg").exists()
    writer.discard()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


@pytest.mark.parametrize(("stamps", "delay"), [([], 0), ([5], 0), ([0, 1, 2], 0), ([0, 2, 1], 1), ([0, 8, 4, 2, 6], 2)])
def test_delay_is_how_far_decoding_runs_ahead(stamps, delay):
    assert reorder_delay(stamps) == delay
