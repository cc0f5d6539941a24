"""Validation: one clip is enough, what is unfit is left out, and the best weights are published."""

import csv

import cv2
import pytest
import torch
from torch import nn
from torch.nn import functional

from stvsr_cli.errors import InputError
from stvsr_cli.train import run
from stvsr_cli.train.losses import Perceptual
from stvsr_cli.train.validate import NUM_PICTURES, Validation
from stvsr_cli.weights.places import verify
from tests.clips import make_video, pattern
from tests.train.test_train import cache, sources
from tests.train.tiny import write_features, write_stage

__all__ = ["cache", "sources"]

CPU = torch.device("cpu")


class Bicubic(nn.Module):
    """A network that enlarges and blends."""

    def forward(self, frames, fps_factor):
        middle = (frames[:, 1:] + frames[:, :-1]) / 2
        both = torch.stack([frames[:, :-1], middle], 2).flatten(1, 2)
        video = torch.cat([both, frames[:, -1:]], 1)
        return functional.interpolate(video[0], scale_factor=4, mode="bicubic")[None], None


def film(path, count=9, width=144, height=136):
    return make_video(path, [pattern(index, width=width, height=height) for index in range(count)])


@pytest.mark.parametrize("count", [1, 2, 6])
def test_any_number_of_clips_is_measured_and_shown(count, tmp_path) -> None:
    (tmp_path / "val").mkdir()
    for index in range(count):
        film(tmp_path / "val" / f"{index}.mp4", count=9 - index)  # an even number of frames, too
    validation = Validation(tmp_path / "val", 16, Perceptual(write_features(tmp_path / "features.safetensors")))
    values = validation.run(Bicubic(), CPU, torch.float32, tmp_path / "grid.png")
    assert values["clean_psnr"] > values["real_psnr"] > 10 and values["clean_perc"] < values["real_perc"]
    assert cv2.imread(str(tmp_path / "grid.png")).shape == (128 * min(count, NUM_PICTURES), 3 * 128, 3)


def test_what_is_unfit_is_left_out_and_nothing_left_is_an_error(tmp_path, caplog) -> None:
    film(tmp_path / "short.mp4", count=2)
    film(tmp_path / "small.mp4", width=48, height=48)
    with pytest.raises(InputError, match="no clip for validation"):
        Validation(tmp_path, 16, None)
    assert all(any(name in record.message for record in caplog.records) for name in ("short.mp4", "small.mp4"))
    film(tmp_path / "good.mp4")
    assert {name for name, *_ in Validation(tmp_path, 16, None).samples} == {"good"}


def test_a_stage_is_validated_on_one_clip_that_it_does_not_train_on(sources, cache, tmp_path) -> None:
    (sources / "val").mkdir()
    film(sources / "val" / "one.mp4", width=320, height=288)
    config = write_stage(tmp_path, "compact", "decoder", validate_every=1, data={"validation": "val"})
    lines = []
    run(config, data=sources, out=tmp_path, cache=cache[1], report=lines.append)
    (sources / "val" / "one.mp4").unlink()
    (sources / "val").rmdir()
    assert sum(line.startswith("validate ") for line in lines) == 2
    with (tmp_path / "decoder.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    measured = {row["name"]: float(row["value"]) for row in rows if row["kind"] == "validate"}
    assert measured["clean_psnr"] > 10
    assert not list(cache[1].glob("*one*"))
    assert verify(tmp_path / "decoder.best") and (tmp_path / "decoder-grid.png").stat().st_size > 1000
