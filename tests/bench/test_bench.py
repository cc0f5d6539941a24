"""`stvsr bench` measures any model on any device, with whatever weights there are."""

import json
import time

import pytest
import torch
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from stvsr_cli.bench.clip import make_clip
from stvsr_cli.bench.floor import Rates, count_work, measure_rates
from stvsr_cli.bench.measure import VERBS, _frames_until, measure
from stvsr_cli.cli import app
from stvsr_cli.media.write.packets import PacketEncoder

SMALL = (
    "--tiny",
    "--size",
    "32x16",
    "--window",
    "3",
    "--device",
    "cpu",
    "--precision",
    "fp32",
    "--preset",
    "ultrafast",
)


def bench(*arguments):
    result = CliRunner().invoke(app, ["bench", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def check(row, name):
    assert row["model"] == name and row["window"] == [3, 16, 32] and row["output"] == [64, 128]
    assert set(row["verbs"]) == set(VERBS) and all(value >= 0 for value in row["verbs"].values())
    assert row["window_fps"] > 0 and row["peak_bytes"] > 0 and row["planned_bytes"] > 0
    assert row["run_fps"] > 0 and 0 < row["busy"] <= 1
    stages = row["stages"]
    assert {"decode", "model", "convert", "encode", "total"} <= set(stages)
    assert max(stages["decode"], stages["convert"], stages["encode"]) <= stages["total"]
    assert (row["teraflop"] > 0) == (name != "linear") and row["traffic_s"] > 0


def test_models_are_measured_with_random_weights_and_drawn(tmp_path):
    picture = tmp_path / "bench.png"
    lines = bench(*SMALL, "--model", "compact", "--model", "linear", "--json", "--plot", picture).splitlines()
    rows = [json.loads(line) for line in lines]
    for row, name in zip(rows, ("compact", "linear"), strict=True):
        check(row, name)
    assert rows[0]["weights"] == "random" and picture.stat().st_size > 5000


def test_the_table_has_a_line_a_model_in_each_block():
    text = bench(*SMALL, "--model", "linear", "--windows", "1")
    assert [line.split()[0] for line in text.splitlines() if line.startswith("linear")] == ["linear", "linear"]
    assert "device busy" in text and "planned" in text
    text = bench(*SMALL, "--model", "linear", "--windows", "0")
    assert "whole run" not in text


def test_each_model_is_printed_when_it_is_measured_and_then_all_together():
    text = bench(*SMALL, "--model", "linear", "--model", "compact", "--windows", "0")
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("linear", "compact", "all"))] == [
        "linear", "compact", "all", "linear", "compact"]  # fmt: skip


def test_the_operations_that_take_most_time_are_listed():
    text = bench(*SMALL, "--model", "compact", "--windows", "0", "--operations", "3")
    rows = text.split("compact: where a window's time goes")[1].split("\n\n")[1].splitlines()
    assert rows[0].split() == ["ms", "share", "calls", "operation", "shapes"] and len(rows) == 4
    listed = json.loads(bench(*SMALL, "--model", "compact", "--windows", "0", "--operations", "3", "--json"))[
        "operations"
    ]
    times = [item["seconds"] for item in listed]
    assert times == sorted(times, reverse=True) and 0 < sum(item["share"] for item in listed) <= 1
    assert all(item["calls"] >= 1 for item in listed)


def test_no_frames_are_taken_into_a_run_when_its_time_is_over(tmp_path):
    info = make_clip(tmp_path / "clip.mkv", 32, 16, 6)
    assert [len(list(_frames_until(moment, info, 1))) for moment in (0.0, float("inf"))] == [1, 6]


def test_models_for_which_no_time_is_left_are_named(monkeypatch):
    def slow(*given):
        time.sleep(1)
        return measure(*given)

    monkeypatch.setattr("stvsr_cli.bench.measure.measure", slow)
    result = CliRunner().invoke(app, ["bench", *SMALL, "--model", "linear", "--model", "compact", "--seconds", "1"])
    assert "linear" in result.stdout and "compact" not in result.stdout
    assert result.stderr.splitlines()[-1] == "not measured, as the time is over: compact"


def test_an_encoder_that_keeps_the_model_waiting_is_said(monkeypatch):
    keep = PacketEncoder.encode

    def slow(self, *item):
        time.sleep(0.05)
        return keep(self, *item)

    monkeypatch.setattr(PacketEncoder, "encode", slow)
    text = bench(*SMALL, "--preset", "medium", "--model", "linear", "--windows", "20")
    assert text.splitlines()[-2].startswith("linear: libx264 is slower than the model; --preset ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["osdenhancer", "dloral", "diffst"])
def test_the_large_systems_are_measured_too(name):
    check(json.loads(bench(*SMALL, "--model", name, "--windows", "1", "--json")), name)


def test_a_size_that_is_none_is_refused():
    result = CliRunner().invoke(app, ["bench", "--size", "large"])
    assert result.exit_code == 2


def test_work_is_counted_by_operation_and_by_byte():
    layer = nn.Conv2d(8, 16, 3, padding=1, bias=False)
    x = torch.ones(1, 8, 10, 10)
    work = count_work(lambda: layer(x))
    assert work.operations == 2 * 8 * 16 * 9 * 100
    assert work.bytes == 4 * (8 * 100 + 8 * 16 * 9 + 16 * 100)
    assert count_work(lambda: x.view(8, 100).transpose(0, 1)).bytes == 0
    assert count_work(lambda: functional.relu(x)).bytes == 2 * x.nbytes
    rates = Rates(operations=1e9, bytes=1e6)
    assert work.floor_s(rates) == work.operations / 1e9 and work.traffic_s(rates) == work.bytes / 1e6


@pytest.mark.slow
def test_rates_of_this_machine_are_plausible():
    rates = measure_rates(torch.device("cpu"), torch.float32)
    assert 1e8 < rates.operations < 1e14 and 1e7 < rates.bytes < 1e13
