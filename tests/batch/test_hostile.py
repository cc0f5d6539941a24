"""Inputs that point elsewhere are refused; outputs of a batch stay in their folder."""

import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stvsr_cli.cli import app
from stvsr_cli.media.read.probe import probe
from tests.clips import make_video, pattern

OPTIONS = ("--model", "linear", "--preset", "ultrafast", "--scale", "2", "--progress", "none")


def clip(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_video(path, [pattern(i, 32, 32) for i in range(3)])


def run(*arguments):
    return CliRunner().invoke(app, ["upscale", *(str(a) for a in arguments), *OPTIONS])


def scripts(folder):
    """Files that name another file, by suffix."""
    video = clip(folder / "secret.mp4")
    return {
        "concat.txt": f"ffconcat version 1.0\nfile '{video}'\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{video}'\n",
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{video}\n#EXT-X-ENDLIST\n",
        "list.mkv": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{video}\n#EXT-X-ENDLIST\n",
        "manifest.mpd": f"<?xml version='1.0'?><MPD><Period><BaseURL>file://{video}</BaseURL></Period></MPD>",
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "list.pls": f"[playlist]\nFile1={video}\n",
        "graph.lavfi": "testsrc=duration=1",
        "data.ffmeta": ";FFMETADATA1\ntitle=x\n",
    }


@pytest.mark.parametrize("name", ["concat.txt", "concat.mp4", "list.m3u8", "list.mkv", "manifest.mpd", "session.sdp",
                                  "list.pls", "graph.lavfi", "data.ffmeta"])  # fmt: skip
def test_files_that_pull_in_other_files_are_refused(tmp_path, name):
    source = tmp_path / name
    source.write_text(scripts(tmp_path)[name])
    result = run(source, tmp_path / "out.mp4")
    assert result.exit_code == 3 and "cannot be read as a video" in result.stderr
    assert len([line for line in result.stderr.splitlines() if "error" in line]) == 1
    assert not (tmp_path / "out.mp4").exists()


def test_protocols_are_refused_and_nothing_is_asked(tmp_path):
    secret = clip(tmp_path / "secret.mp4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        for name in (f"http://127.0.0.1:{port}/a.mp4", f"tcp://127.0.0.1:{port}", f"rtmp://127.0.0.1:{port}/x"):
            result = run(name, tmp_path / "out.mp4")
            assert result.exit_code == 3 and "--allow-url" in result.stderr, name
        with pytest.raises(TimeoutError):
            server.accept()
    for name in (f"concat:{secret}|{secret}", f"file:{secret}", f"subfile,,start,0,end,99,,:{secret}", f"crypto:{secret}",
                 f"cache:{secret}", "data:video/mp4;base64,AAAA", "pipe:0", "fd:0"):  # fmt: skip
        assert run(name, tmp_path / "out.mp4").exit_code == 3, name
    assert not (tmp_path / "out.mp4").exists()


def test_a_url_is_read_when_it_is_allowed(tmp_path):
    secret = clip(tmp_path / "secret.mp4")
    assert run(f"file:{secret}", tmp_path / "out.mp4", "--allow-url").exit_code == 0
    assert probe(tmp_path / "out.mp4").num_frames == 6


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_devices_and_links_to_them_are_refused(tmp_path, device):
    (tmp_path / "link.mp4").symlink_to(device)
    for source in (device, tmp_path / "link.mp4"):
        result = run(source, tmp_path / "out.mp4")
        assert result.exit_code == 3 and "is a device" in result.stderr
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").symlink_to(device)
    assert run(tmp_path / "in", tmp_path / "out").exit_code == 7


def test_a_name_with_a_colon_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "x.mp4").rename("http:x.mp4")
    assert run("http:x.mp4", "out:1.mp4").exit_code == 0
    assert probe("out:1.mp4").num_frames == 6


@pytest.mark.parametrize("template", ["../{stem}{suffix}", "/tmp/{stem}{suffix}", "a/{stem}{suffix}", "..", "{stem}/../x{suffix}"])  # fmt: skip
def test_templates_do_not_leave_the_folder(tmp_path, template):
    clip(tmp_path / "in" / "a.mp4")
    assert run(tmp_path / "in", tmp_path / "out", "--name-template", template).exit_code == 2
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_inputs_from_above_go_into_the_folder(tmp_path, monkeypatch):
    clip(tmp_path / "above.mp4")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run("../above.mp4", str(tmp_path / "here" / ".." / "above.mp4"), "out/").exit_code == 0
    assert [p.name for p in Path("out").iterdir()] == ["above.mp4"]


@pytest.mark.parametrize("place", ["file", "folder", "journal", "claim", "part"])
def test_links_in_the_output_folder_are_not_followed_out(tmp_path, place):
    clip(tmp_path / "in" / "sub" / "a.mp4")
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (outside / "victim.segment").write_bytes(b"keep me")
    (out / "sub").mkdir(parents=True)
    if place == "file":
        (out / "sub" / "a.mp4").symlink_to(outside / "victim.segment")
    elif place == "folder":
        (out / "sub").rmdir()
        (out / "sub").symlink_to(outside)
    elif place == "journal":
        (out / "sub" / "a.mp4.stvsr").symlink_to(outside)
    elif place == "claim":
        (out / "sub" / ".a.mp4.claim").symlink_to(outside / "claim")
    else:
        (out / "sub" / "a.mp4").symlink_to(out / "sub" / "new.mp4")
    result = run(tmp_path / "in", out, "--recursive", "--overwrite")
    assert "Traceback" not in result.stderr
    if place != "part":
        assert result.exit_code == 7 or place == "claim", result.stderr
    assert [(p.name, p.read_bytes()) for p in outside.iterdir()] == [("victim.segment", b"keep me")]


def test_folders_that_are_links_are_not_read(tmp_path):
    clip(tmp_path / "elsewhere" / "b.mp4")
    clip(tmp_path / "in" / "a.mp4")
    os.symlink(tmp_path / "elsewhere", tmp_path / "in" / "link")
    assert run(tmp_path / "in", tmp_path / "out", "--recursive").exit_code == 0
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.mp4")) == ["a.mp4"]
