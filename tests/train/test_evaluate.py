"""Evaluation: any model on clips, tables that are read back, and differences with their error."""

import math
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from stvsr_cli.cli import app
from stvsr_cli.errors import InputError
from stvsr_cli.models import linear
from stvsr_cli.models.diffst import write_folder
from stvsr_cli.train.evaluate import Excerpt, Row, differences, evaluate, mean_values, read_rows, write_rows
from tests.models.diffst.tiny import lively
from tests.models.diffst.tiny import tiny as tiny_diffst

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    picture = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for name, count in (("long", 7), ("short", 3)):
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            for t in range(count):
                frame = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(np.roll(picture, 2 * t, axis=1)), format="rgb24"
                )
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return folder


def test_a_model_is_measured_on_both_tracks_of_the_clips_that_are_long_enough(clips: Path) -> None:
    rows = list(evaluate(linear.load(CPU), clips, Excerpt(keyframes=3, crop_px=64), device=CPU))
    assert [(row.clip, row.track) for row in rows] == [("long", "clean"), ("long", "real")]
    clean, real = (mean_values(rows, track) for track in ("clean", "real"))
    assert clean["psnr"] > real["psnr"] > 10
    assert clean["psnr_mid"] < clean["psnr"]  # a blend of two places is neither
    assert 0 < real["sharp"] < clean["sharp"] < 1.2


def test_source_frames_alone_are_measured_without_what_lies_between(clips: Path) -> None:
    model = linear.load(CPU)
    both, alone = (
        next(iter(evaluate(model, clips, Excerpt(keyframes=3, crop_px=64, fps_factor=factor), device=CPU))).values
        for factor in (2, 1)
    )
    assert alone.keys() == {name for name in both if not name.endswith("_mid")}
    # three of five frames, of which two are blends
    assert alone["psnr"] == pytest.approx((5 * both["psnr"] - 2 * both["psnr_mid"]) / 3, abs=1e-3)


def test_the_crop_is_the_middle_of_the_frame(clips: Path) -> None:
    class Centre:
        traits = linear.load(CPU).traits
        seen: torch.Tensor

        def initialise(self, frames: torch.Tensor, request: object) -> torch.Tensor:
            self.seen = frames
            return frames

        def encode(self, init: torch.Tensor, request: object) -> torch.Tensor:
            return init

        def condition(self, init: torch.Tensor, latent: torch.Tensor, request: object) -> None:
            return None

        def denoise(self, latent: torch.Tensor, condition: None, request: object) -> torch.Tensor:
            return latent

        def decode(self, latent: torch.Tensor, init: torch.Tensor, request: object) -> torch.Tensor:
            size = (2 * latent.shape[1] - 1, *(4 * side for side in latent.shape[-2:]))
            moved = latent.transpose(1, 2)
            return torch.nn.functional.interpolate(moved, size=size).transpose(1, 2)

    model = Centre()
    whole = next(iter(evaluate(model, clips, Excerpt(keyframes=3), device=CPU)))  # type: ignore[arg-type]
    frames = model.seen
    part = next(iter(evaluate(model, clips, Excerpt(keyframes=3, crop_px=64), device=CPU)))  # type: ignore[arg-type]
    torch.testing.assert_close(model.seen, frames[..., 4:20, 8:24])
    assert whole.values["psnr"] != part.values["psnr"]


def test_tables_are_read_back_and_compared(tmp_path: Path) -> None:
    ours = [Row("a", "clean", {"psnr": 31.0}), Row("b", "clean", {"psnr": 29.0})]
    theirs = [Row("b", "clean", {"psnr": 28.0}), Row("a", "clean", {"psnr": 27.0})]
    write_rows(theirs, tmp_path / "rows.csv")
    assert read_rows(tmp_path / "rows.csv") == theirs
    mean, error = differences(ours, read_rows(tmp_path / "rows.csv"), "clean")["psnr"]
    assert (mean, error) == (pytest.approx(2.5), pytest.approx(math.sqrt(4.5) / math.sqrt(2)))
    assert differences(ours, theirs, "real") == {}
    (tmp_path / "rows.csv").write_text("clip,track,psnr\na,clean,good\n")
    with pytest.raises(InputError, match="not a table"):
        read_rows(tmp_path / "rows.csv")


def test_what_cannot_be_evaluated_is_said(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no clip of 17 frames"):
        list(evaluate(linear.load(CPU), clips, Excerpt(keyframes=9), device=CPU))
    with pytest.raises(InputError, match="multiple of 4"):
        Excerpt(crop_px=30)
    with pytest.raises(InputError, match="must be 1 or 2"):
        Excerpt(fps_factor=4)


def test_settings_of_the_loader_reach_the_model(clips: Path, tmp_path: Path) -> None:
    """With guidance switched off by --set the figures are others; a setting that does not exist is a usage error."""
    write_folder(lively(tiny_diffst()), tmp_path / "weights")
    command = ["evaluate", str(clips), "--model", "diffst", "--weights", str(tmp_path / "weights"), "--keyframes", "2"]
    command += ["--crop", "64", "--device", "cpu"]
    found = []
    for name, extra in (("plain", []), ("same", ["--set", "guidance=true"]), ("other", ["--set", "guidance=false"])):
        result = CliRunner().invoke(app, [*command, *extra, "--out", str(tmp_path / f"{name}.csv")])
        assert result.exit_code == 0, result.stderr
        found.append(mean_values(read_rows(tmp_path / f"{name}.csv"), "clean"))
    assert found[0] == found[1] and found[0]["psnr"] != found[2]["psnr"]
    for wrong, words in (("speed=2", "no such setting"), ("guidance", "NAME=VALUE"), ("posterior=mean", "posterior")):
        result = CliRunner().invoke(app, [*command, "--set", wrong])
        assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.stderr


def test_the_command_prints_means_and_writes_a_table(clips: Path, tmp_path: Path) -> None:
    table = tmp_path / "linear.csv"
    command = ["evaluate", str(clips), "--model", "linear", "--keyframes", "3", "--crop", "64"]
    done = CliRunner().invoke(app, [*command, "--out", str(table)])
    assert done.exit_code == 0, done.output
    assert "clean  psnr" in done.output
    assert len(read_rows(table)) == 2
    again = CliRunner().invoke(app, [*command, "--against", str(table)])
    assert "difference psnr +0.0000" in again.output
    refused = CliRunner().invoke(app, [*command, "--out", str(table)])
    assert refused.exit_code == 2
