import json
import re
import threading
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from stvsr_cli.batch.batch import BatchConfig, Shared, run_batch
from stvsr_cli.batch.existing import is_complete
from stvsr_cli.batch.inputs import Item, expand, find_items, make_folder
from stvsr_cli.batch.names import target_name
from stvsr_cli.cli import app
from stvsr_cli.errors import InputError, Interrupted, ModelError, OutputError, UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.media.read.count import measure
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models.linear import LinearModel
from stvsr_cli.pipeline import loading
from stvsr_cli.pipeline import upscale as pipeline
from tests.clips import make_video, pattern

QUICK = ("--model", "linear", "--preset", "ultrafast", "--scale", "2")


def clip(path, count=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_video(path, [pattern(i, 32, 32) for i in range(count)])


def touch(path, content=b"no video"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["upscale", *(str(a) for a in arguments), *QUICK])


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def job(**changes):
    encoder = EncoderConfig(preset="ultrafast")
    return Job(**{"input": Path("i"), "output": Path("o"), "model": "linear", "encoder": encoder} | changes)


@pytest.fixture
def three(tmp_path):
    """A folder of three videos, the second of them broken."""
    clip(tmp_path / "in" / "a.mp4")
    touch(tmp_path / "in" / "b.mp4")
    clip(tmp_path / "in" / "c.mkv")
    touch(tmp_path / "in" / "notes.txt")
    return tmp_path / "in"


def test_a_folder_is_done_and_one_broken_file_stops_no_other(three, tmp_path):
    result = run(three, tmp_path / "out", "--report", tmp_path / "report.json")
    assert result.exit_code == 7 and "1 of 3 files failed" in result.stderr and result.stdout == ""
    assert tree(tmp_path / "out") == ["a.mp4", "c.mkv"]
    assert measure(tmp_path / "out" / "a.mp4").num_frames == 8
    record = json.loads((tmp_path / "report.json").read_text())
    assert (record["done"], record["skipped"], record["failed"], record["num_files"]) == (2, 0, 1, 3)
    a, b, c = record["files"]
    assert (a["status"], a["frames_in"], a["frames_out"]) == ("done", 4, 8) and a["fps"] > 0 and a["seconds"] > 0
    assert (b["status"], b["exit_code"]) == ("failed", 3) and "cannot be read" in b["why"]
    assert "done" in result.stderr and "failed" in result.stderr and c["output"].endswith("c.mkv")


def test_a_file_that_raises_anything_stops_no_other(three, tmp_path, monkeypatch):
    upscale = pipeline.upscale

    def broken(job, **options):
        if job.input.name == "a.mp4":
            raise RuntimeError("a fault")
        return upscale(job, **options)

    monkeypatch.setattr(pipeline, "upscale", broken)
    items = find_items([three], tmp_path / "out")
    entries = run_batch(items, job(), BatchConfig(folder=tmp_path / "out"))
    assert [e.status for e in entries] == ["failed", "failed", "done"]
    assert entries[0].why == "RuntimeError: a fault" and entries[0].exit_code == 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_ends_the_batch_and_frees_the_claims(three, tmp_path, monkeypatch, jobs):
    def interrupted(job, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "upscale", interrupted)
    with pytest.raises(Interrupted, match="0 of 3 files are done"):
        run_batch(find_items([three], tmp_path / "out"), job(), BatchConfig(folder=tmp_path / "out", jobs=jobs))
    assert tree(tmp_path / "out") == []


def test_fail_fast_starts_no_further_file(three, tmp_path):
    result = run(three, tmp_path / "out", "--fail-fast", "--report", tmp_path / "r.json")
    assert result.exit_code == 7
    files = json.loads((tmp_path / "r.json").read_text())["files"]
    assert [f["status"] for f in files] == ["done", "failed", "skipped"]


def test_all_well_is_exit_code_0_and_quiet_says_nothing(tmp_path):
    result = run(clip(tmp_path / "a.mp4"), clip(tmp_path / "b.mp4"), tmp_path / "out", "-q")
    assert result.exit_code == 0 and result.stderr == "" and tree(tmp_path / "out") == ["a.mp4", "b.mp4"]


def test_json_progress_stays_json(tmp_path):
    result = run(clip(tmp_path / "a.mp4"), f"{tmp_path}/out/", "--progress", "json")
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert lines[0]["file"] == "1/1 a.mp4" and lines[-1]["result"]["status"] == "done"


def test_the_model_is_loaded_once_and_only_if_needed(tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        clip(tmp_path / "in" / name)
    loads, load = [], loading.load
    monkeypatch.setattr(loading, "load", lambda job: loads.append(1) or load(job))
    assert run(tmp_path / "in", tmp_path / "out").exit_code == 0 and len(loads) == 1
    assert run(tmp_path / "in", tmp_path / "out", "--skip-existing").exit_code == 0 and len(loads) == 1


def test_a_model_that_cannot_be_loaded_ends_the_batch(tmp_path):
    items = [Item(clip(tmp_path / "a.mp4"), tmp_path / "out" / "a.mp4")]
    for jobs in (1, 2):
        with pytest.raises(ModelError):
            run_batch(items, job(model="magic"), BatchConfig(folder=tmp_path / "out", jobs=jobs))
    assert tree(tmp_path / "out") == []


def test_folders_are_mirrored(tmp_path):
    for name in ("a.mp4", "x/b.MP4", "x/y/c.avi", ".hidden/d.mp4", "x/.e.mp4", "x/b.mp4.stvsr/part.mp4"):
        touch(tmp_path / "in" / name)
    out = tmp_path / "out"

    def names(*inputs, **options):
        return [str(i.target.relative_to(out)) for i in find_items([tmp_path / p for p in inputs], out, **options)]

    assert names("in") == ["a.mp4"]
    assert names("in", recursive=True) == ["a.mp4", "x/b.mp4", "x/y/c.avi"]
    assert names("in", recursive=True, suffixes=frozenset({".avi"})) == ["x/y/c.avi"]
    touch(tmp_path / "more" / "a.mp4")
    assert names("in", "more") == ["in/a.mp4", "more/a.mp4"]
    assert names("in/a.mp4", "in/a.mp4", "in/x/y/c.avi") == ["a.mp4", "c.avi"]
    clashing = find_items([tmp_path / "in/a.mp4", tmp_path / "more/a.mp4", tmp_path / "in/x/y/c.avi"], out)
    assert ["both become" in str(item.problem) for item in clashing] == [True, True, False]
    with pytest.raises(InputError, match="holds no video"):
        names("in", suffixes=frozenset({".ogv"}))


def test_outputs_among_the_inputs_are_not_done_again(tmp_path):
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "a_x4.mp4")
    template = {"template": "{stem}_x4{suffix}"}
    items = find_items([tmp_path], tmp_path, **template, is_ours=lambda path: path.name == "a_x4.mp4")
    assert [(i.source.name, i.target.name, i.problem) for i in items] == [("a.mp4", "a_x4.mp4", None)]
    first, second = find_items([tmp_path], tmp_path, **template)  # someone else's: never replaced
    assert "inputs are never replaced" in str(first.problem) and second.problem is None
    named = find_items([tmp_path / "a.mp4", tmp_path / "a_x4.mp4"], tmp_path, **template, is_ours=lambda path: True)
    assert [item.problem is None for item in named] == [False, True]
    touch(tmp_path / "out" / "a.mp4")
    items = find_items([tmp_path], tmp_path / "out", recursive=True)
    assert [i.source.name for i in items] == ["a.mp4", "a_x4.mp4"]


def test_patterns(tmp_path):
    for name in ("a1.mp4", "a2.mp4", "b.mp4", "x/a3.mp4", "[c].mp4"):
        touch(tmp_path / name)
    assert [p.name for p in expand(f"{tmp_path}/a*.mp4")] == ["a1.mp4", "a2.mp4"]
    assert [p.name for p in expand(f"{tmp_path}/**/a*.mp4")] == ["a1.mp4", "a2.mp4", "a3.mp4"]
    assert [p.name for p in expand(f"{tmp_path}/[c].mp4")] == ["[c].mp4"]
    with pytest.raises(InputError, match="nothing matches"):
        expand(f"{tmp_path}/z*.mp4")


def test_a_pattern_and_a_template_from_the_command_line(tmp_path):
    clip(tmp_path / "a.mp4")
    result = run(f"{tmp_path}/*.mp4", tmp_path / "out", "--name-template", "{stem}_x{scale}_{model}.mkv")
    assert result.exit_code == 0, result.stderr
    assert tree(tmp_path / "out") == ["a_x2_linear.mkv"]


@pytest.mark.parametrize(
    "template",
    ["../{stem}.mp4", "/tmp/{stem}.mp4", "a/{stem}.mp4", "{stem.__class__}", "{nothing}", "{stem!r}", "{stem:>9}",
     "{", "..", "", ".{stem}", "a\\{stem}"],
)  # fmt: skip
def test_templates_that_leave_the_folder_or_mean_nothing_are_refused(template):
    with pytest.raises(UsageError):
        target_name(Path("a.mp4"), template, {})


def test_names_by_template():
    assert target_name(Path("x/a.b.mp4"), "{stem}_x4{suffix}", {}) == "a.b_x4.mp4"
    assert target_name(Path("a.flv"), "{stem}{suffix}", {}) == "a.mkv"
    assert target_name(Path("{stem}.mp4"), "{stem}{suffix}", {}) == "{stem}.mp4"
    assert target_name(Path("x/y/a.FLV"), "{folder}_{stem}_{ext}{suffix}", {}) == "x_y_a_FLV.mkv"
    assert target_name(Path("a.mp4"), "{stem}_{fps}{suffix}", {"fps": lambda source: source.stem * 2}) == "a_aa.mp4"


def test_outputs_never_follow_a_link_out_of_the_folder(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    clip(tmp_path / "in" / "sub" / "a.mp4")
    clip(tmp_path / "in" / "b.mp4")
    out.mkdir()
    elsewhere.mkdir()
    (out / "sub").symlink_to(elsewhere)
    (out / "b.mp4").symlink_to(elsewhere / "b.mp4")
    result = run(tmp_path / "in", out, "--recursive", "--overwrite")
    assert result.exit_code == 7 and result.stderr.count("would lie outside") >= 2
    assert tree(elsewhere) == []
    with pytest.raises(OutputError, match="outside"):
        make_folder(out / ".." / "x" / "a.mp4", out)


def test_skip_existing_leaves_complete_ones_and_makes_others_again(tmp_path):
    for name in ("a.mp4", "b.mkv", "c.mp4"):
        clip(tmp_path / "in" / name, 50)
    out = tmp_path / "out"
    assert run(tmp_path / "in", out).exit_code == 0
    whole = (out / "b.mkv").read_bytes()
    (out / "b.mkv").write_bytes(whole[: len(whole) // 2])
    (out / "c.mp4").write_bytes(b"nothing")
    before = (out / "a.mp4").stat().st_mtime_ns
    assert run(tmp_path / "in", out, "--skip-existing", "--report", tmp_path / "r.json").exit_code == 7
    files = json.loads((tmp_path / "r.json").read_text())["files"]
    assert [(f["status"], f["exit_code"]) for f in files] == [("skipped", 0), ("done", 0), ("failed", 4)]
    assert files[0]["why"] == "complete already" and "nothing shows that this program made it" in files[2]["why"]
    assert (out / "a.mp4").stat().st_mtime_ns == before and measure(out / "b.mkv").num_frames == 100
    assert (out / "c.mp4").read_bytes() == b"nothing"
    assert run(tmp_path / "in", out, "--skip-existing", "--overwrite").exit_code == 0
    assert measure(out / "c.mp4").num_frames == 100
    assert run(tmp_path / "in", out).exit_code == 7  # never replaced unasked


def test_complete_means_size_and_frames_and_duration(tmp_path):
    source, target = clip(tmp_path / "in.mp4", 50), tmp_path / "out.mp4"
    pipeline.upscale(job(input=source, output=target))
    assert is_complete(job(input=source, output=target))
    assert not is_complete(job(input=source, output=target, fps_factor=1))
    assert not is_complete(job(input=source, output=target, width=64))
    assert not is_complete(job(input=clip(tmp_path / "longer.mp4", 60), output=target))


def test_two_batches_share_the_files(tmp_path, monkeypatch):
    for i in range(6):
        clip(tmp_path / "in" / f"{i}.mp4")
    out, made, upscale = tmp_path / "out", [], pipeline.upscale

    def slow(job, **options):
        made.append(job.input.name)
        time.sleep(0.02)
        return upscale(job, **options)

    monkeypatch.setattr(pipeline, "upscale", slow)
    items, results, barrier = find_items([tmp_path / "in"], out), [], threading.Barrier(2)
    loaded = loading.load(job())

    def batch():
        barrier.wait()
        results.append(run_batch(items, job(), BatchConfig(folder=out), loaded=loaded))

    threads = [threading.Thread(target=batch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [f"{i}.mp4" for i in range(6)]
    statuses = [{entry.status for entry in held_by} for held_by in zip(*results, strict=True)]
    assert all("done" in both and both <= {"done", "skipped", "held"} for both in statuses)
    assert tree(out) == [f"{i}.mp4" for i in range(6)]


def test_several_at_once_give_the_same_files(tmp_path):
    for i in range(4):
        clip(tmp_path / "in" / f"{i}.mp4", 10)
    items = find_items([tmp_path / "in"], tmp_path / "a")
    assert {e.status for e in run_batch(items, job(), BatchConfig(folder=tmp_path / "a"))} == {"done"}
    items = find_items([tmp_path / "in"], tmp_path / "b")
    entries = run_batch(items, job(), BatchConfig(folder=tmp_path / "b", jobs=3))
    assert {e.status for e in entries} == {"done"} and [Path(e.input).name for e in entries] == [
        f"{i}.mp4" for i in range(4)
    ]
    for name in tree(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_shared_model_works_for_one_at_a_time():
    class Watched(LinearModel):
        inside = most = 0

        def denoise(self, latent, condition, request):
            Watched.inside += 1
            Watched.most = max(Watched.most, Watched.inside)
            time.sleep(0.01)
            Watched.inside -= 1
            return latent

    model = Shared(Watched(torch.device("cpu")))
    threads = [threading.Thread(target=model.denoise, args=(None, None, None)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Watched.most == 1 and model.traits.name == "linear"


def test_what_makes_no_batch(tmp_path):
    a, b = clip(tmp_path / "a.mp4"), clip(tmp_path / "b.mp4")
    assert run(a).exit_code == 2
    result = run(a, b, tmp_path / "out.mp4")
    assert result.exit_code == 2 and "need a folder" in result.stderr
    assert run(a, b, tmp_path / "out", "--report", tmp_path / "none" / "r.json").exit_code == 4
    assert run(a, b, tmp_path / "out", "--report", a).exit_code == 2
    assert run(a, tmp_path / "none.mp4", tmp_path / "out").exit_code == 7
    assert probe(a).num_frames == 4


def test_a_dry_run_lists_the_files(three, tmp_path):
    result = run(three, tmp_path / "out", "--dry-run")
    assert result.exit_code == 7 and not (tmp_path / "out").exists() and "1 of 3 files would fail" in result.stderr
    a, b, c, whole = result.stdout.splitlines()
    begin = f"{three}/a.mp4 -> {tmp_path}/out/a.mp4: 64x64, 50 fps, about 8 frames, "
    assert a.startswith(begin) and re.fullmatch(r"\d+\.\d s, \d+\.\d KiB", a.removeprefix(begin))
    assert re.fullmatch(r"2 files: about \d+\.\d s, \d+\.\d KiB in all; .* are free", whole)
    sizes = [float(re.search(r"s, (\d+\.\d) KiB", line)[1]) for line in (a, c, whole)]
    assert sizes[0] + sizes[1] == pytest.approx(sizes[2], abs=0.11)
    assert "b.mp4 cannot be read" in b and c.startswith(f"{three}/c.mkv")


def test_a_dry_run_into_a_folder_that_is_not_made_yet_beside_the_input(three):
    result = run(three / "a.mp4", f"{three}/new/", "--dry-run")
    assert result.exit_code == 0 and f"-> {three}/new/a.mp4: 64x64" in result.stdout


def test_one_file_with_a_report(tmp_path):
    result = run(clip(tmp_path / "a.mp4"), tmp_path / "b.mkv", "--report", tmp_path / "r.json")
    assert result.exit_code == 0 and json.loads((tmp_path / "r.json").read_text())["done"] == 1
    assert run(tmp_path / "a.mp4", tmp_path / "b.mkv", "--skip-existing").exit_code == 0
