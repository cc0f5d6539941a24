"""The doctor: everything here is well, and what is not is said with what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from stvsr_cli.cli import app
from stvsr_cli.doctor.check import BAD, GOOD, WARNING, Check, exit_code
from stvsr_cli.doctor.files import check_codecs, check_weights
from stvsr_cli.doctor.system import check_device, check_system
from stvsr_cli.errors import ModelError, OutputError
from stvsr_cli.media.health import encoder_fault
from tests.clips import ROOT


def test_the_machine_that_runs_the_tests_is_well() -> None:
    checks = [*check_system(), *check_device(), *check_codecs()]
    assert not [check for check in checks if check.state == BAD]
    assert {"Python", "PyTorch", "processor", "PyAV", "libx264", "NVENC"} <= {check.name for check in checks}


def test_the_command_tries_the_models_that_are_there() -> None:
    run = CliRunner().invoke(app, ["doctor", "--json", "--device", "cpu"])
    assert run.exit_code == 0
    found = {check["name"]: check for check in json.loads(run.stdout)}
    assert found["compact, one window"]["state"] == GOOD
    assert "on cpu" in found["compact, one window"]["said"]
    assert found["libx264"]["said"] == "encodes"


def test_lines_fit_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = CliRunner().invoke(app, ["doctor", "--device", "cpu"])
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert run.stdout.splitlines()[-1].startswith("All works")


def test_damaged_weights_are_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "compact"
    shutil.copytree(ROOT / "weights" / "compact", folder, ignore=shutil.ignore_patterns("pictures"))
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    monkeypatch.setenv("STVSR_WEIGHTS", str(tmp_path))
    check = next(check for check in check_weights(again=True) if check.name == "compact")
    assert (check.state, check.kind) == (BAD, ModelError)
    assert "altered" in check.said and check.advice
    run = CliRunner().invoke(app, ["doctor", "--device", "cpu", "--thorough"])
    assert run.exit_code == ModelError.exit_code
    assert "bad" in run.stdout.splitlines()[-1]


def test_incomplete_weights_of_another_model_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "diffst").mkdir()
    (tmp_path / "diffst" / "model.safetensors").write_bytes(b"x")
    monkeypatch.setenv("STVSR_WEIGHTS", str(tmp_path))
    check = next(check for check in check_weights() if check.name == "diffst")
    assert check.state == WARNING
    assert "lacks" in check.said and check.advice


def test_the_exit_code_is_that_of_the_first_bad_thing() -> None:
    good, bad = Check("a", "x", GOOD, ""), Check("a", "y", BAD, "", "", OutputError)
    assert exit_code([good]) == 0
    assert exit_code([good, bad, Check("a", "z", BAD, "", "", ModelError)]) == OutputError.exit_code


def test_encoders_are_really_opened() -> None:
    assert encoder_fault("libx264") is None
    assert "no video encoder" in (encoder_fault("libx999") or "")
    if not torch.cuda.is_available():
        assert encoder_fault("h264_nvenc")
