import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from stvsr_cli import Job, upscale
from stvsr_cli.color.box import Box
from stvsr_cli.errors import InputError, OutputError, UsageError
from stvsr_cli.job.report import Loaded
from stvsr_cli.job.size import Size, find_size
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models import linear
from stvsr_cli.models.entry import ModelOptions
from stvsr_cli.pipeline import sources
from stvsr_cli.pipeline.upscale import plan
from tests.clips import BUNNY, beep_times, flash_times, make_video, pattern, read_frames

CPU = torch.device("cpu")
LOSSLESS = EncoderConfig(crf=0, preset="ultrafast")
QUICK = EncoderConfig(preset="ultrafast")


def moving(count, width=48, height=32):
    return [pattern(i, width, height) for i in range(count)]


def job_of(source, target, **changes):
    return Job(**{"input": source, "output": target, "model": "linear", "encoder": QUICK} | changes)


def loaded_with(model):
    return Loaded(model, CPU, torch.float32, 0.0)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("count", [1, 2, 19])
def test_frames_times_and_duration_are_exact(tmp_path, count, rate, factor):
    source = make_video(tmp_path / "in.mp4", moving(count), rate=rate)
    report = upscale(job_of(source, tmp_path / "out.mp4", fps_factor=factor))
    pictures, times, _ = read_frames(tmp_path / "out.mp4")
    assert (report.frames_in, report.frames_out) == (count, count * factor)
    assert pictures[0].shape == (128, 192, 3)
    assert times == [k / rate / factor for k in range(count * factor)]
    assert report.output.duration_s == count / rate


def test_variable_rate_is_halved_frame_by_frame(tmp_path):
    stamps = [0, 10, 15, 40, 42, 90]
    source = make_video(tmp_path / "in.mp4", moving(6), stamps=stamps, time_base=Fraction(1, 100))
    upscale(job_of(source, tmp_path / "out.mp4"))
    times = read_frames(tmp_path / "out.mp4")[1]
    wanted = [Fraction(a + b, 200) for a, b in zip(stamps, stamps[1:], strict=False)]
    assert times[0:11:2] == [Fraction(s, 100) for s in stamps]
    assert times[1:10:2] == wanted


def test_two_runs_agree_to_the_bit(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(30), audio_s=1.0)
    for name in ("a.mp4", "b.mp4"):
        upscale(job_of(source, tmp_path / name, seed=3))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("changes", [{"window": 3, "overlap": 2}, {"batch": 3, "window": 4}, {"tile": 24}])
def test_windows_tiles_and_batches_do_not_show(tmp_path, changes):
    source = make_video(tmp_path / "in.mp4", moving(11))
    upscale(job_of(source, tmp_path / "whole.mp4", window=20, encoder=LOSSLESS))
    upscale(job_of(source, tmp_path / "parts.mp4", encoder=LOSSLESS, **changes))
    whole, parts = (np.stack(read_frames(tmp_path / n)[0]).astype(int) for n in ("whole.mp4", "parts.mp4"))
    assert whole.shape == parts.shape
    assert abs(whole - parts).max() <= 2


def two_shots(path):
    dark = [np.full((32, 48, 3), 30, np.uint8)] * 8
    light = [np.full((32, 48, 3), 220, np.uint8)] * 8
    return make_video(path, dark + light)


@pytest.mark.parametrize("factor", [2, 4])
def test_no_frame_is_made_across_a_cut(tmp_path, factor):
    report = upscale(job_of(two_shots(tmp_path / "in.mp4"), tmp_path / "out.mp4", fps_factor=factor))
    levels = [picture.mean() for picture in read_frames(tmp_path / "out.mp4")[0]]
    assert report.num_shots == 2 and len(levels) == 16 * factor
    assert max(levels[: 8 * factor]) < 40 and min(levels[8 * factor :]) > 210


def test_ignoring_cuts_blends_across_them(tmp_path):
    report = upscale(job_of(two_shots(tmp_path / "in.mp4"), tmp_path / "out.mp4", cuts="ignore"))
    levels = [picture.mean() for picture in read_frames(tmp_path / "out.mp4")[0]]
    assert report.num_shots == 1 and len(levels) == 32
    assert 100 < levels[15] < 150


def test_flash_and_beep_stay_together(tmp_path):
    pictures = [np.full((32, 48, 3), 255 if i in (10, 40) else 0, np.uint8) for i in range(50)]
    source = make_video(tmp_path / "in.mp4", pictures, audio_s=2.0, beeps_s=(0.4, 1.6))
    upscale(job_of(source, tmp_path / "out.mp4", cuts="ignore"))
    flashes, beeps = flash_times(tmp_path / "out.mp4"), beep_times(tmp_path / "out.mp4")
    assert len(flashes) == len(beeps) == 2
    assert all(abs(f - b) <= 1 / 50 + 1e-3 for f, b in zip(flashes, beeps, strict=True))


def test_a_part_comes_with_its_own_moments(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(50), audio_s=2.0)
    report = upscale(job_of(source, tmp_path / "out.mp4", start=Fraction(1, 2), end=Fraction(1)))
    times = read_frames(tmp_path / "out.mp4")[1]
    assert report.frames_out in (24, 26) and times[0] == 0
    assert abs(report.output.duration_s - Fraction(1, 2)) <= Fraction(1, 25)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (196, 132)),
        ({"scale": Fraction(3, 2)}, (74, 50)),
        ({"scale": Fraction(1)}, (50, 34)),
        ({"width": 100}, (100, 68)),
        ({"height": 100}, (148, 100)),
    ],
)
def test_output_sizes_are_even_and_keep_the_aspect(tmp_path, changes, size):
    source = make_video(tmp_path / "in.mkv", moving(2, 49, 33), pix_fmt="yuv444p")
    report = upscale(job_of(source, tmp_path / "out.mkv", fps_factor=1, **changes))
    assert (report.output.width, report.output.height) == size


@pytest.mark.parametrize("changes", [{"width": 900}, {"height": 10}])
def test_sizes_beyond_all_bounds_are_refused(tmp_path, changes):
    source = make_video(tmp_path / "in.mp4", moving(1))
    with pytest.raises(UsageError, match="cannot be enlarged"):
        upscale(job_of(source, tmp_path / "out.mp4", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"fps_factor": 33},
        {"fps_factor": 0},
        {"target_fps": Fraction(0)},
        {"target_fps": Fraction(1001)},
        {"slow_motion": 3},
        {"slow_motion": Fraction(1, 2)},
        {"slow_sound": "loud"},
        {"scale": Fraction(17)},
        {"scale": Fraction(2), "width": 100},
        {"cuts": "maybe"},
        {"detail": 1.5},
        {"start": Fraction(2), "end": Fraction(1)},
        {"batch": 0},
        {"tile": -1},
    ],
)
def test_jobs_that_make_no_sense_are_refused(changes):
    with pytest.raises(UsageError):
        job_of(Path("in.mp4"), Path("out.mp4"), **changes)


@pytest.mark.parametrize("changes", [{"options": ModelOptions(prompt="a cat")}, {"detail": 0.5}])
def test_options_of_other_models_are_refused(tmp_path, changes):
    source = make_video(tmp_path / "in.mp4", moving(1))
    with pytest.raises(UsageError, match="is not an option of the model"):
        upscale(job_of(source, tmp_path / "out.mp4", **changes))


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (EncoderConfig(codec="ffv1", crf=10), "ffv1 does not use --crf 10"),
        (EncoderConfig(codec="libx264", crf=60), "--crf 60 must lie in"),
        (EncoderConfig(codec="libx264", options=(("nonsense", "1"),)), "does not use nonsense=1"),
        (EncoderConfig(codec="libx264", preset="bogus"), "preset"),
    ],
)
def test_what_an_encoder_does_not_use_is_refused_before_the_model_is_loaded(tmp_path, encoder, said):
    source = make_video(tmp_path / "in.mp4", moving(2))
    job = job_of(source, tmp_path / "out.mkv", encoder=encoder)
    with pytest.raises((UsageError, OutputError), match=said):
        upscale(job, loaded=lambda: pytest.fail("the model was loaded"))
    assert not (tmp_path / "out.mkv").exists()


def test_ten_bit_stays_ten_bit(tmp_path):
    source = make_video(tmp_path / "in.mkv", moving(3), pix_fmt="yuv420p10le", codec="ffv1")
    report = upscale(job_of(source, tmp_path / "out.mkv"))
    assert report.output.bit_depth == 10


class Failing(linear.LinearModel):
    """Fails in its second window."""

    def __init__(self, error):
        super().__init__(CPU)
        self.calls, self.error = 0, error

    def denoise(self, latent, condition, request):
        self.calls += 1
        if self.calls == 2:
            raise self.error
        return latent


@pytest.mark.parametrize("error", [ValueError("broken model"), KeyboardInterrupt()])
def test_a_failure_reaches_the_caller_and_leaves_nothing(tmp_path, error):
    source = make_video(tmp_path / "in.mp4", moving(40))
    before = threading.active_count()
    with pytest.raises(type(error)):
        upscale(job_of(source, tmp_path / "out.mp4"), loaded=loaded_with(Failing(error)))
    assert threading.active_count() == before
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_an_encoder_that_fails_is_an_output_error(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(30))
    before = threading.active_count()
    with pytest.raises(OutputError):
        upscale(job_of(source, tmp_path / "out.mp4", encoder=EncoderConfig(options=(("profile", "baseless"),))))
    assert threading.active_count() == before
    assert not (tmp_path / "out.mp4").exists()


def test_memory_that_runs_out_once_changes_nothing(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(12))
    upscale(job_of(source, tmp_path / "a.mp4", record=False))
    failing = loaded_with(Failing(torch.OutOfMemoryError("no more")))
    upscale(job_of(source, tmp_path / "b.mp4", batch=2, record=False), loaded=failing)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_threads_end_and_progress_counts_up(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(12))
    seen, before = [], threading.active_count()
    report = upscale(job_of(source, tmp_path / "out.mp4"), progress=seen.append)
    assert threading.active_count() == before
    assert [p.phase for p in seen] == ["load", *["upscale"] * 24, "finish"]
    assert [p.done for p in seen[1:-1]] == list(range(1, 25))
    assert seen[-1].total == 24 and seen[-1].eta_s == 0
    assert report.peak_bytes > 0 and report.seconds["total"] >= report.seconds["model"] > 0


def test_decoding_stays_only_a_little_ahead(tmp_path, monkeypatch):
    from stvsr_cli.engine.local import AHEAD
    from stvsr_cli.pipeline import sources as run

    read = 0

    def counting(*args, **options):
        nonlocal read
        for frame in decode(*args, **options):
            read += 1
            yield frame

    decode = run.decode
    monkeypatch.setattr(run, "decode", counting)
    source = make_video(tmp_path / "in.mp4", moving(120))
    ahead = []
    upscale(
        job_of(source, tmp_path / "out.mp4", fps_factor=1, window=4),
        progress=lambda p: ahead.append(read - p.done) if p.phase == "upscale" else None,
    )
    assert len(ahead) == 120 and max(ahead) <= 4 + 1 + AHEAD + 4


def test_bad_paths_are_found_before_the_model_is_loaded(tmp_path):
    source = make_video(tmp_path / "in.mp4", moving(1))
    with pytest.raises(InputError):
        upscale(job_of(tmp_path / "none.mp4", tmp_path / "out.mp4", model="no such model"))
    with pytest.raises(OutputError):
        upscale(job_of(source, tmp_path / "none" / "out.mp4", model="no such model"))
    with pytest.raises(OutputError, match="input itself"):
        upscale(job_of(source, source, overwrite=True))


ALL = Box(0, 0, 1280, 720)


class Hungry(linear.LinearModel):
    """Needs a known number of bytes for each input pixel."""

    def window_bytes(self, num_frames, height_px, width_px, fps_factor):
        return height_px * width_px


@pytest.mark.parametrize(("usable", "tiled"), [(320 * 180, 0), (320 * 180 - 1, 168), (140 * 140, 128), (1, 128)])
def test_tiles_are_planned_by_the_memory_there_is(monkeypatch, usable, tiled):
    monkeypatch.setattr("stvsr_cli.pipeline.loading.usable_bytes", lambda device, waiting=0: usable)
    planned = plan(job_of(BUNNY, Path("out.mp4")), loaded=loaded_with(Hungry(CPU)), briefly=True).plan
    assert planned.tile.size_px == tiled
    whole = plan(job_of(BUNNY, Path("out.mp4"), tile=0), loaded=loaded_with(Hungry(CPU)), briefly=True).plan
    assert whole.num_tiles == 1


class Halving(Hungry):
    """Needs a quarter of the memory for frames of half its scale."""

    def halved_window_bytes(self, num_frames, height_px, width_px, fps_factor):
        return height_px * width_px // 4


@pytest.mark.parametrize(
    ("size", "halved"),
    [
        ({"scale": Fraction(2)}, True), ({"scale": Fraction(1)}, True), ({"width": 640}, True), ({"height": 270}, True),
        ({"scale": Fraction(21, 10)}, False), ({"width": 642}, False), ({}, False),
        ({"width": 900, "height": 360, "fit_mode": "pad"}, True), ({"width": 900, "height": 360, "fit_mode": "crop"}, False),
    ],
)  # fmt: skip
def test_up_to_half_the_models_scale_frames_are_made_in_that(monkeypatch, size, halved):
    room = 320 * 180 // 4
    monkeypatch.setattr("stvsr_cli.pipeline.loading.usable_bytes", lambda device, waiting=0: room)
    planned = plan(job_of(BUNNY, Path("out.mp4"), **size), loaded=loaded_with(Halving(CPU, scale=4)), briefly=True).plan
    assert planned.request.halved == halved
    assert (planned.memory == room and planned.num_tiles == 1) == halved
    plain = plan(job_of(BUNNY, Path("out.mp4"), **size), loaded=loaded_with(Hungry(CPU, scale=4)), briefly=True).plan
    assert not plain.request.halved and plain.num_tiles > 1


class Patient(Hungry):
    """Takes longer windows where there is memory; a known number of bytes for each pixel of a window."""

    def __init__(self):
        super().__init__(CPU)
        self.traits = replace(self.traits, window=9, longer_windows=(17, 33), overlap=2)

    def window_bytes(self, num_frames, height_px, width_px, fps_factor):
        return num_frames * height_px * width_px


@pytest.mark.parametrize(
    ("usable", "changes", "length", "tiled"),
    [
        (2 * 33, {}, 33, False), (2 * 33 - 1, {}, 17, False), (2 * 17 - 1, {}, 9, False), (8, {}, 9, True), (None, {}, 9, False),
        (10**6, {"window": 12}, 12, False), (0.5, {"tile": 64}, 9, True), (4, {"tile": 32}, 33, True),
    ],
)  # fmt: skip
def test_windows_are_as_long_as_memory_has_ample_room_for(monkeypatch, usable, changes, length, tiled):
    room = None if usable is None else int(usable * 320 * 180)
    monkeypatch.setattr("stvsr_cli.pipeline.loading.usable_bytes", lambda device, waiting=0: room)
    planned = plan(job_of(BUNNY, Path("out.mp4"), **changes), loaded=loaded_with(Patient()), briefly=True).plan
    assert (planned.windows.size, planned.num_tiles > 1) == (length, tiled)
    assert planned.spec.record.options.get("window") == (None if length == 9 else str(length))


def test_a_plan_says_what_will_come(tmp_path):
    job = job_of(BUNNY, tmp_path / "out.mp4", fps_factor=4, window=10, overlap=2)
    planned = plan(job, briefly=True).plan
    assert (planned.width, planned.height, planned.num_frames) == (1280, 720, 200)
    assert planned.rate == 100 and planned.num_windows == 6
    assert planned.size == find_size(planned.info, job) == Size(1280, 720, ALL, ALL, Fraction(4))


def test_a_frame_to_fit_is_filled_with_bars_or_with_sides_cut_off(tmp_path):
    source = make_video(tmp_path / "in.mp4", [np.full((32, 48, 3), 200, np.uint8)] * 2)
    box = {"width": 96, "height": 96, "fps_factor": 1}
    upscale(job_of(source, tmp_path / "pad.mp4", fit_mode="pad", **box))
    upscale(job_of(source, tmp_path / "crop.mp4", fit_mode="crop", **box))
    upscale(job_of(source, tmp_path / "in_it.mp4", **box))
    padded, cropped, inside = (read_frames(tmp_path / f"{name}.mp4")[0][0] for name in ("pad", "crop", "in_it"))
    assert padded.shape == cropped.shape == (96, 96, 3) and inside.shape == (64, 96, 3)
    assert padded[:12].max() < 12 and padded[-12:].max() < 12 and padded[20:76].min() > 180
    assert cropped.min() > 180 and inside.min() > 180


def test_what_the_model_does_not_enlarge_is_resampled_and_said(tmp_path, caplog):
    source = make_video(tmp_path / "in.mp4", moving(2, 32, 16))
    model = linear.LinearModel(CPU, scale=4)
    report = upscale(job_of(source, tmp_path / "out.mp4", height=128), loaded=loaded_with(model))
    assert (report.output.width, report.output.height) == (256, 128)
    assert "enlarges 4 times; the rest, to 8 times, is resampled" in caplog.text


def test_an_input_is_probed_once(tmp_path, monkeypatch):
    source, probed = make_video(tmp_path / "in.mp4", moving(3)), []
    probe = sources.probe
    monkeypatch.setattr(sources, "probe", lambda path, **options: probed.append(path) or probe(path, **options))
    upscale(job_of(source, tmp_path / "out.mp4"))
    assert probed == [source]
