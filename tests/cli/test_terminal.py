"""Pictures in terminals: which way a terminal shows them, and what is sent."""

import base64
import io
import os
import pty
import re
import threading

import numpy as np
import pytest

from stvsr_cli.cli.terminal import ASK_DEVICE, iterm2, kitty, pixels_wide, reduced, sixel, way_to_show


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "way"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "dumb"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "x"}, None),
        ({}, None),
    ],
)
def test_the_way_is_known_by_the_environment(environment: dict[str, str], way: str | None) -> None:
    assert way_to_show(environment, Terminal()) == way
    assert way_to_show(environment, io.StringIO()) is None


@pytest.mark.parametrize(("answer", "way"), [(b"\x1b[?62;4;22c", "sixel"), (b"\x1b[?62;22c", None), (b"", None)])
def test_a_terminal_is_asked(answer: bytes, way: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()

    def reply() -> None:
        asked = b""
        while ASK_DEVICE.encode() not in asked:
            asked += os.read(master, 16)
        os.write(master, answer)

    thread = threading.Thread(target=reply, daemon=True)
    with os.fdopen(slave, "r+b", buffering=0) as terminal:
        text = io.TextIOWrapper(terminal, write_through=True)
        monkeypatch.setattr("sys.stdin", text)
        monkeypatch.setattr("sys.stdout", text)
        thread.start()
        assert way_to_show({"TERM": "xterm"}, text) == way
        thread.join(5)
        assert pixels_wide(text, default=77) == 77
    os.close(master)


def test_kitty_takes_a_picture_in_pieces() -> None:
    data = bytes(range(256)) * 40
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(data))
    assert len(parts) > 2 and all(len(text) <= 4096 for _, text in parts)
    assert base64.b64decode("".join(text for _, text in parts)) == data
    assert parts[0][0] == "a=T,f=100,m=1" and parts[-1][0] == "m=0"


def test_iterm2_takes_it_whole() -> None:
    head, _, text = iterm2(b"png").partition(":")
    assert "size=3" in head and base64.b64decode(text.rstrip("\x07\n")) == b"png"


def unsixel(text: str) -> np.ndarray:
    """Decode sixels, as a terminal does (DEC STD 070)."""
    width, height = map(int, re.search(r'"1;1;(\d+);(\d+)', text).groups())
    colors = {int(n): [int(v) for v in rest] for n, *rest in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", text)}
    picture, body = np.zeros((height + 5, width, 3)), re.sub(r"#\d+;2;[\d;]+", "", text.split('"', 1)[1])
    x, top, color = 0, 0, None
    for number, count, letter, control in re.findall(r"#(\d+)|!(\d+)([?-~])|([?-~$-])", body.removesuffix("\x1b\\\n")):
        if number:
            color = colors[int(number)]
        elif control in ("$", "-"):
            x, top = 0, top + 6 * (control == "-")
        else:
            value, run = ord(letter or control) - 63, int(count or 1)
            for bit in range(6):
                if value >> bit & 1:
                    picture[top + bit, x : x + run] = color
            x += run
    return picture[:height] * 2.55


def test_sixels_are_the_picture() -> None:
    y, x = np.mgrid[0:35, 0:50]
    picture = np.stack([x * 5, y * 7, 255 - x * 5], -1).astype(np.uint8)
    shown = unsixel(sixel(picture))
    assert shown.shape == picture.shape
    blocks = (shown - picture)[:32, :48].reshape(8, 4, 12, 4, 3).mean((1, 3))
    assert np.abs(blocks).max() < 12


def test_few_colours_stay_what_they_are() -> None:
    picture = np.random.default_rng(0).integers(0, 4, (20, 30, 1)).astype(np.uint8) * np.array([80, 60, 20], np.uint8)
    palette, index = reduced(picture)
    assert len(palette) == 4
    assert (palette[index] == picture).all()
