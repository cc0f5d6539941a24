"""Tests that need a card are left out where there is none, with a line that says so; signals are as by default."""

import signal

import pytest

HANDLERS = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}


def pytest_configure() -> None:
    """Undo what a shell does that starts tests in the background: it has them ignored."""
    for name, handler in HANDLERS.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device")
