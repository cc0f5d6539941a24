"""A run in which a device waits for the encoder says by which preset it would not."""

import time

import pytest

from stvsr_cli.engine import local
from stvsr_cli.engine.handover import DeviceHandover
from stvsr_cli.media.write.presets import tell_advice
from stvsr_cli.media.write.settings import EncoderConfig
from tests.engine.fakes import Queued
from tests.engine.runs import frames, run_of

ADVICE = "libx264 is slower than the model; --preset "


@pytest.fixture(autouse=True)
def _forget():
    tell_advice.cache_clear()
    yield
    tell_advice.cache_clear()


def said(monkeypatch, caplog, *, encode_s, device_s, queued=True, codec="libx264", times=1):
    """What a run says whose device and encoder take so long for a group and for a frame."""
    if queued:
        monkeypatch.setattr(local, "lanes_of", lambda _: Queued(device_s))
        monkeypatch.setattr(local, "handover_of", DeviceHandover)
    with caplog.at_level("WARNING", "stvsr_cli"):
        for _ in range(times):
            run = run_of(lambda: frames(40, 8, 8), height=8, width=8, window=3, overlap=1,
                         encoder=EncoderConfig(codec=codec))  # fmt: skip
            run.into(lambda *_: time.sleep(encode_s))
    return caplog.messages


def test_an_encoder_that_a_device_waits_for_is_said(monkeypatch, caplog):
    assert said(monkeypatch, caplog, encode_s=0.01, device_s=0.002) == [f"{ADVICE}ultrafast is its fastest"]


def test_the_preset_is_the_best_that_keeps_up(monkeypatch, caplog):
    (message,) = said(monkeypatch, caplog, encode_s=0.02, device_s=0.04)  # four frames a group
    assert message.startswith(ADVICE) and message.endswith("keeps up")


def test_it_is_said_while_the_run_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(local, "ADVISE_S", 0.4)
    told = []
    monkeypatch.setattr(local, "tell_advice", lambda text: told.append((text, time.perf_counter())))
    said(monkeypatch, caplog, encode_s=0.02, device_s=0.002)
    assert len(told) == 1 and time.perf_counter() - told[0][1] > 0.2


def test_a_batch_says_it_once(monkeypatch, caplog):
    assert len(said(monkeypatch, caplog, encode_s=0.01, device_s=0.001, times=2)) == 1


@pytest.mark.parametrize(
    "case",
    [
        {"encode_s": 0.0, "device_s": 0.03},
        {"encode_s": 0.01, "device_s": 0.001, "codec": "ffv1"},
        {"encode_s": 0.01, "device_s": 0.0, "queued": False},
    ],
    ids=["the device is slower", "nothing is known of the encoder", "a CPU does both"],
)
def test_else_nothing_is_said(monkeypatch, caplog, case):
    assert said(monkeypatch, caplog, **case) == []
