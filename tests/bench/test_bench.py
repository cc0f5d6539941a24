"""`stvsr bench` measures any model on any device, with whatever weights there are."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from stvsr_cli.bench.floor import Rates, count_work, measure_rates
from stvsr_cli.bench.measure import VERBS
from stvsr_cli.cli import app

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
