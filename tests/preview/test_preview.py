"""The preview: moments from the shots, what the whole run gives there, one sheet, and a clip."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from stvsr_cli.cli import app
from stvsr_cli.cli.preview import choices_of
from stvsr_cli.errors import UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.media.read.probe import probe
from stvsr_cli.preview.drawing import shortened, text_width, write
from stvsr_cli.preview.moments import Moment, choose
from stvsr_cli.preview.sheet import Row, busiest, crop_size, in_time, sheet
from stvsr_cli.preview.trial import Choice, Film, run, source_frames
from tests.clips import make_video, pattern, read_frames


@pytest.fixture
def two_shots(tmp_path: Path) -> Path:
    """A short shot and a long one, 0.4 and 1.2 s."""
    first = [pattern(i, 64, 48) for i in range(10)]
    blocks = np.random.default_rng(0).integers(20, 235, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    second = [np.roll(blocks, i, 1) for i in range(30)]
    return make_video(tmp_path / "two.mp4", [*first, *second])


def previewed(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["preview", *map(str, words), "--progress", "none"])


def test_moments_are_the_middles_of_the_longest_shots(two_shots: Path) -> None:
    info = probe(two_shots)
    found = choose(info, 3)
    assert [float(m.time) for m in found] == pytest.approx([0.2, 0.7, 1.3], abs=0.05)
    assert [(float(m.begin), float(m.end)) for m in found[1:]] == [pytest.approx((0.4, 1.6), abs=0.05)] * 2
    (only,) = choose(info, 1)
    assert float(only.time) == pytest.approx(1.0, abs=0.05)


def test_a_long_video_is_looked_at_here_and_there(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "long.mp4", [pattern(i, 32, 32, 1) for i in range(120)], rate=4)
    found = choose(probe(clip), 3)
    assert [float(m.time) for m in found] == pytest.approx([5, 15, 25], abs=2)


def test_moments_that_are_asked_for(two_shots: Path) -> None:
    info = probe(two_shots)
    found = choose(info, 3, [Fraction(1), Fraction(1, 5)])
    assert [m.time for m in found] == [Fraction(1, 5), 1]
    assert float(found[0].end) == pytest.approx(0.4, abs=0.05)
    with pytest.raises(UsageError, match="beyond the end"):
        choose(info, 3, [Fraction(7)])


@given(st.fractions(0, 10), st.fractions(0, 5), st.fractions(0, 1), st.fractions("1/25", 4))
def test_a_piece_lies_in_its_shot(begin: Fraction, length: Fraction, share: Fraction, wanted: Fraction) -> None:
    moment = Moment(begin + share * length, begin, begin + length)
    first, last = moment.span(wanted)
    assert moment.begin <= first <= last <= moment.end
    assert last - first == min(wanted, length)


def test_what_a_choice_gives_is_what_the_whole_run_gives(two_shots: Path, tmp_path: Path) -> None:
    job = Job(input=two_shots, output=Path("x.mkv"), model="linear", scale=Fraction(2))
    info = probe(two_shots)
    moments = choose(info, 2)
    (outcome,) = run([Choice("linear", job)], info, moments)
    whole = tmp_path / "whole.mkv"
    done = CliRunner().invoke(app, ["upscale", str(two_shots), str(whole), "--model", "linear", "--scale", "2", "-q"])
    assert done.exit_code == 0
    pictures, times, _ = read_frames(whole)
    for moment, frame in zip(moments, outcome.shown, strict=True):
        shown = max(i for i, time in enumerate(times) if time <= moment.time + Fraction(1, 500))
        apart = [np.abs(frame.astype(int) - picture).mean() for picture in pictures]
        assert int(np.argmin(apart)) == shown
        assert apart[shown] < 6
    assert outcome.seconds is not None and outcome.bytes is not None
    assert (outcome.shown[0].shape, outcome.rate) == ((96, 128, 3), 50)


def test_a_film_holds_what_was_cut_out_and_turned_video_stands_upright(tmp_path: Path) -> None:
    turned = make_video(tmp_path / "turned.mp4", [pattern(i, 64, 48) for i in range(12)], rotation=90)
    job = Job(input=turned, output=Path("x.mkv"), model="linear", scale=Fraction(2))
    info = probe(turned)
    film = Film(0, Fraction(8, 25), lambda picture: picture[:10, :20])
    (outcome,) = run([Choice("linear", job)], info, choose(info, 1), film=film)
    assert outcome.shown[0].shape == (128, 96, 3)
    assert len(outcome.film) == 16
    assert {part.shape for part in outcome.film} == {(10, 20, 3)}
    frames, _ = source_frames(info, choose(info, 1)[0], Fraction(1, 5))
    assert frames[0].shape == (64, 48, 3)


def test_the_command_makes_a_sheet_and_a_clip(two_shots: Path, tmp_path: Path) -> None:
    target, clip = tmp_path / "sheet.png", tmp_path / "loop.gif"
    words = (two_shots, "-o", target, "--model", "linear", "--at", "1", "--clip", clip)
    done = previewed(*words)
    assert done.exit_code == 0, done.stderr
    assert "about" in done.stdout and "KiB" in done.stdout and str(target) in done.stdout
    (picture,), _, _ = read_frames(target)
    assert picture.shape[1] > 800
    frames, times, _ = read_frames(clip)
    assert len(frames) == 50
    assert float(times[-1]) == pytest.approx(49 / 50, abs=0.02)
    again = previewed(*words)
    assert again.exit_code == 4 and "exists" in again.stderr


def test_the_compact_model_is_shown_at_three_strengths(two_shots: Path, tmp_path: Path) -> None:
    done = previewed(two_shots, "-o", tmp_path / "sheet.png", "--at", "1", "--device", "cpu", "--preset", "ultrafast")
    assert done.exit_code == 0, done.stderr
    labels = [line.partition(":")[0] for line in done.stdout.splitlines()[:-1]]
    assert labels == ["compact, detail 0", "compact, as usual", "compact, detail 1"]


def test_choices() -> None:
    job = Job(input=Path("in.mp4"), output=Path("out.mkv"))
    assert [c.job.model for c in choices_of(job, ["linear", "compact"], [])] == ["linear", "compact"]
    assert [c.job.detail for c in choices_of(job, [], [0.5])] == [0.5]
    for models, details in ((["linear", "compact"], [0.5]), (["linear"], [0.5])):
        with pytest.raises(UsageError):
            choices_of(job, models, details)


def test_crops_are_where_there_is_most_to_see() -> None:
    picture = np.full((60, 80, 3), 90, np.uint8)
    picture[40:55, 50:75] = np.random.default_rng(0).integers(0, 255, (15, 25, 3))
    crop = busiest(picture, 320, 240, (120, 90))
    assert crop.left <= 4 * 62 <= crop.left + crop.width
    assert crop.top <= 4 * 47 <= crop.top + crop.height


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(16, 900), st.integers(16, 900))
def test_every_size_has_a_sheet(choices: int, width: int, height: int) -> None:
    width, height = width - width % 2, height - height % 2
    source = np.zeros((max(2, height // 4), max(2, width // 4), 3), np.uint8)
    outputs = [np.full((height, width, 3), 200, np.uint8)] * choices
    columns = [["as it comes"], *(["a choice", "whole run: 3 s"] for _ in range(choices))]
    made = sheet("a title", columns, [Row("0:01.00", source, outputs)], ["a footer"])
    wide, tall = crop_size(choices + 1, width, height)
    assert (made == 200).all(2).sum() >= choices * wide * tall * 0.9
    assert made.shape[0] < 4000


def test_letters_are_drawn_and_cut_to_fit() -> None:
    canvas = np.zeros((40, 300, 3), np.uint8)
    write(canvas, "Preview of ümlaut", 4, 4, (255, 255, 255))
    assert canvas[:, : text_width("Preview of ümlaut") + 4].max() > 200
    assert not canvas[:, text_width("Preview of ümlaut") + 8 :].any()
    assert text_width(shortened("a very long name indeed", 90)) <= 90
    write(canvas, "beyond the rim", 290, 35, (255, 255, 255))


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (75, "75 s"), (600, "10 min"), (9000, "2.5 h"), (400_000, "4.6 days")]
)
def test_times_are_said_as_people_do(seconds: float, said: str) -> None:
    assert in_time(seconds) == said
