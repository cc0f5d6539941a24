"""`stvsr models`: what it says, and fetching from a hub that breaks off, lies, or is not there."""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from safetensors import safe_open
from typer.main import get_command
from typer.testing import CliRunner

from stvsr_cli.cli import app
from stvsr_cli.models.catalogue import MODELS, find_model
from stvsr_cli.models.dloral import read_checkpoint
from stvsr_cli.weights import places as weights
from stvsr_cli.weights.hub import RECORD, fetched_commit
from tests.weights.fake_hub import COMMIT, REPO, fake_hub

SHARD = "transformer/model-00001-of-00001.safetensors"
FILES = {
    "transformer/config.json": b'{"a": 1}\n',
    SHARD: bytes(range(256)) * 400,
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": b"v" * 1000,
    "scheduler/scheduler_config.json": b'{"s": 2}',
    "prompt_embeddings/empty.safetensors": b"p" * 300,
    "README.md": b"a card",
    "examples/film.mp4": b"not wanted",
}
WANTED = sorted(name for name in FILES if "/" in name and "examples" not in name)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The folder that weights are fetched into, on a machine that has none."""
    folder = tmp_path / "own"
    monkeypatch.setenv(weights.ENVIRONMENT, str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))  # as HF_HOME does before the import
    return folder


@pytest.fixture
def hub(monkeypatch):
    with fake_hub(dict(FILES)) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)  # as HF_ENDPOINT does before the import
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10000)  # less than a chunk is lost
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield served


def run(*arguments):
    return CliRunner().invoke(app, ["models", *(str(a) for a in arguments)])


def pull(*arguments, name="osdenhancer"):
    return run("pull", name, "--repo", REPO, *arguments)


def one_line(result):
    """The line that says what went wrong."""
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1 and "Traceback" not in result.stderr
    return lines[0]


def files_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def shown_in(folder):
    return [p.name for p in folder.iterdir() if not p.name.startswith(".")]


# what it says


def test_the_list_has_a_line_of_seven_columns_for_each_model():
    result = run("list")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == list(MODELS)
    assert all(len(row) == 7 and all(row) for row in rows)
    assert {row[0]: row[6] for row in rows} == dict.fromkeys(MODELS, "no weights") | {"linear": "ready"}


def test_the_list_is_a_table_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("stvsr_cli.cli.models._on_terminal", lambda: True)
    shown = run("list").stdout
    assert "what for" in shown and "most detail, large GPU" in shown and "\t" not in shown


def test_listing_imports_neither_torch_nor_diffusers():
    code = (
        "import sys; from stvsr_cli.cli import app; app(['models', 'list'], standalone_mode=False);"
        "sys.exit(bool({'torch', 'av', 'diffusers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_fits_a_terminal_of_80_columns(monkeypatch):
    monkeypatch.setattr("stvsr_cli.cli.models._on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("list").stdout.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in "".join(lines)
    assert all(any(f" {name} " in line for line in lines) for name in MODELS)
    assert "models show NAME" in lines[-1]


def test_show_says_what_is_lacking_and_how_to_get_it(root):
    shown = run("show", "dloral").stdout
    for words in ("RAIL", "--color-fix", "model.safetensors or model.pkl", "Google Drive", "stvsr models import"):
        assert words in shown
    (root / "dloral" / "base" / "unet").mkdir(parents=True)
    (root / "dloral" / "base" / "unet" / "config.json").write_text("{}")
    shown = run("show", "dloral").stdout
    assert "incomplete" in shown and "base/unet" not in shown and "base/vae" in shown


@pytest.mark.parametrize("command", ["path", "verify", "remove"])
@pytest.mark.parametrize("name", ["osdenhancer", "magic"])
def test_what_is_not_there_is_one_line_and_code_5(command, name):
    result = run(command, name)
    assert result.exit_code == 5 and name in one_line(result)


# fetching


def test_what_is_fetched_is_whole_and_says_where_it_is_from(hub, root):
    result = pull()
    assert result.exit_code == 0, result.stderr
    folder = root / "osdenhancer"
    assert COMMIT in result.stdout and str(folder) in result.stdout
    assert files_in(folder) == sorted([*WANTED, weights.SUMS, RECORD])
    assert all((folder / name).read_bytes() == FILES[name] for name in WANTED)
    assert sorted(p.relative_to(folder).as_posix() for p in weights.verify(folder)) == WANTED
    assert run("path", "osdenhancer").stdout == f"{folder}\n"
    assert fetched_commit(folder) == f"{REPO}@{COMMIT}"
    assert json.loads((folder / RECORD).read_text())["revision"] == "main"
    assert "ready" in run("show", "osdenhancer").stdout and f"{REPO}@{COMMIT}" in run("show", "osdenhancer").stdout
    assert shown_in(root) == ["osdenhancer"]


def test_an_altered_file_is_found_afterwards(hub, root):
    pull()
    assert "6 files" in run("verify", "osdenhancer").stdout
    (root / "osdenhancer" / "vae" / "config.json").write_text("{ }")
    result = run("verify", "osdenhancer")
    assert result.exit_code == 5 and "vae/config.json" in one_line(result)


def test_a_broken_transfer_goes_on_where_it_stopped(hub, root):
    hub.cuts[SHARD] = [50000]
    assert pull().exit_code == 0
    assert hub.ranges(SHARD) == [None, "bytes=50000-"]
    assert (root / "osdenhancer" / SHARD).read_bytes() == FILES[SHARD]


def test_the_next_run_fetches_only_what_has_not_come_yet(hub, root):
    hub.cuts[SHARD] = [30000, 503]
    result = pull()
    assert result.exit_code == 5 and "Run it again" in one_line(result)
    assert not (root / "osdenhancer").exists() and run("path", "osdenhancer").exit_code == 5
    come = {name for name in WANTED if name != SHARD and hub.ranges(name)}
    hub.requests.clear()
    assert pull().exit_code == 0
    assert hub.ranges(SHARD) == [None] and come
    assert not [name for name in come if hub.ranges(name)]
    assert (root / "osdenhancer" / SHARD).read_bytes() == FILES[SHARD]


def test_what_the_cache_of_hugging_face_has_is_not_fetched_again(hub, root):
    snapshot_download(REPO, allow_patterns=[SHARD, "vae/*"])
    hub.requests.clear()
    assert pull().exit_code == 0
    assert not hub.ranges(SHARD) and not hub.ranges("vae/config.json")
    assert hub.ranges("transformer/config.json") == [None]
    folder = root / "osdenhancer"
    assert all((folder / name).read_bytes() == FILES[name] and not (folder / name).is_symlink() for name in WANTED)
    assert (folder / SHARD).stat().st_nlink == 2  # one file on the disk, in both places
    assert "0.1 MB are still in the Hugging Face cache" in run("remove", "osdenhancer", "--yes").stdout


def test_on_another_disk_it_is_a_copy(hub, root, monkeypatch):
    def no_link(source, path):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    assert pull().exit_code == 0
    assert (root / "osdenhancer" / SHARD).stat().st_nlink == 1
    assert "6 files" in run("verify", "osdenhancer").stdout


def test_a_file_that_the_cache_holds_damaged_is_fetched_anew(hub, root):
    snapshot = snapshot_download(REPO, allow_patterns=[SHARD])
    with open(f"{snapshot}/{SHARD}", "r+b") as file:
        file.write(b"damaged")
    assert pull().exit_code == 5
    hub.requests.clear()
    assert pull().exit_code == 0
    assert hub.ranges(SHARD) == [None] and (root / "osdenhancer" / SHARD).read_bytes() == FILES[SHARD]


@pytest.mark.parametrize("whole", [True, False])
def test_without_network_the_cache_of_hugging_face_serves_if_it_is_whole(whole, hub, root, monkeypatch):
    source = replace(find_model("osdenhancer").source, repo=REPO, sums=())
    monkeypatch.setitem(MODELS, "osdenhancer", replace(find_model("osdenhancer"), source=source))
    snapshot_download(REPO, allow_patterns=WANTED if whole else [SHARD])
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    result = run("pull", "osdenhancer")
    if whole:
        assert result.exit_code == 0 and f"commit {COMMIT}" in result.stdout and "cache" in result.stderr
        assert "6 files" in run("verify", "osdenhancer").stdout
    else:
        assert result.exit_code == 5 and "could not be reached" in one_line(result)
        assert not (root / "osdenhancer").exists()


def test_two_processes_at_once_fetch_each_file_once(root, tmp_path):
    with fake_hub(dict(FILES)) as served:
        served.delay_s = 0.2
        environment = {"HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-m", "stvsr_cli", "models", "pull", "osdenhancer", "--repo", REPO]
        both = [
            subprocess.Popen(command, env=clean_environment() | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]  # fmt: skip
        outcomes = [(process.communicate(timeout=100), process.returncode) for process in both]
    assert [code for _, code in outcomes] == [0, 0], outcomes
    assert all(served.ranges(name) == [None] for name in WANTED)
    assert "6 files" in run("verify", "osdenhancer").stdout and shown_in(root) == ["osdenhancer"]


@pytest.mark.parametrize("name", [SHARD, "vae/config.json"])
def test_a_wrong_checksum_is_refused_and_not_kept(name, hub, root):
    hub.altered.add(name)
    result = pull()
    assert result.exit_code == 5
    assert name in one_line(result) and "wrong checksum" in one_line(result)
    assert not (root / "osdenhancer").exists()
    hub.altered.clear()
    hub.requests.clear()
    assert pull().exit_code == 0 and hub.ranges(name) == [None]


def test_a_newer_commit_takes_the_place_of_the_old_one(hub, root):
    pull()
    renamed = {name.replace(SHARD, "transformer/other.safetensors"): content for name, content in hub.files.items()}
    hub.files = renamed | {"vae/config.json": b"[]"}
    hub.answers["main"] = "a" * 40
    assert pull().exit_code == 0
    folder = root / "osdenhancer"
    assert not (folder / SHARD).exists() and (folder / "transformer" / "other.safetensors").exists()
    assert "6 files" in run("verify", "osdenhancer").stdout


def test_weights_that_were_put_there_by_hand_are_not_replaced(hub, root):
    (root / "osdenhancer").mkdir(parents=True)
    (root / "osdenhancer" / "mine.safetensors").write_bytes(b"mine")
    assert pull().exit_code == 4
    assert files_in(root / "osdenhancer") == ["mine.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--revision", "v9"), "no revision v9"), (("--repo", "no/body"), "no/body"), (("--repo", "a b"), "OWNER/NAME")],
)
def test_what_the_hub_does_not_have(arguments, words, hub):
    result = pull(*arguments)
    assert result.exit_code == 5 and words in one_line(result)


def test_a_repository_without_the_files_is_refused(hub, root):
    del hub.files["scheduler/scheduler_config.json"]
    result = pull()
    assert result.exit_code == 5 and "scheduler/*" in one_line(result)
    hub.files = FILES | {"vae/../../../outside": b"x"}
    result = pull()
    assert result.exit_code == 5 and "refused" in one_line(result)


def test_a_commit_that_is_asked_for_is_the_one_that_comes(hub, root):
    hub.answers["c" * 40] = COMMIT
    result = pull("--revision", "c" * 40)
    assert result.exit_code == 5 and COMMIT in one_line(result)
    hub.answers["c" * 40] = "c" * 40
    assert pull("--revision", "c" * 40).exit_code == 0
    assert fetched_commit(root / "osdenhancer") == f"{REPO}@{'c' * 40}"


def test_a_branch_that_has_moved_on_is_reported(hub, root, monkeypatch):
    source = find_model("osdenhancer").source
    known = tuple((name, hashlib.sha256(FILES[name]).hexdigest()) for name in WANTED)
    for sums, words in ((known, ""), ((("vae/config.json", "0" * 64), *known[1:]), "vae/config.json")):
        entry = replace(find_model("osdenhancer"), source=replace(source, repo=REPO, sums=sums))
        monkeypatch.setitem(MODELS, "osdenhancer", entry)
        result = run("pull", "osdenhancer")
        assert result.exit_code == 0
        warned = [line for line in result.stderr.splitlines() if "other files than" in line]
        assert len(warned) == bool(words) and all(words in line for line in warned)


def test_what_is_fetched_is_pinned():
    sources = [entry.source for entry in MODELS.values() if entry.source]
    assert len(sources) == 3
    assert all(re.fullmatch("[0-9a-f]{40}", source.revision) or source.sums for source in sources)
    assert all(re.fullmatch("[0-9a-f]{64}", known) for source in sources for _, known in source.sums)


def test_models_with_nothing_to_fetch_say_so(hub):
    for name in ("compact", "linear"):
        result = run("pull", name)
        assert result.exit_code == 5 and "nothing to fetch" in one_line(result)


def test_the_base_alone_is_not_all_of_dloral(hub, root):
    base = {f"{part}/config.json": b"{}" for part in ("unet", "vae", "text_encoder")}
    hub.files = base | {
        "vae/diffusion_pytorch_model.safetensors": b"v",
        "text_encoder/model.safetensors": b"t",
        "tokenizer/merges.txt": b"m",
        "unet/diffusion_pytorch_model.safetensors": b"never asked for",
    }
    pinned = find_model("dloral").source.revision
    hub.answers[pinned] = pinned
    result = pull(name="dloral")
    assert result.exit_code == 0 and "import model.pkl" in result.stdout
    files = [path for path, _ in hub.requests if "/resolve/" in path]
    assert files and all(f"/resolve/{pinned}/" in path for path in files)
    assert "unet/diffusion_pytorch_model.safetensors" not in files_in(root / "dloral" / "base")
    shown = run("show", "dloral").stdout
    assert "incomplete, lacks model.safetensors or model.pkl" in shown and f"{REPO}@{pinned}" in shown
    assert "6 files" in run("verify", "dloral").stdout


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}


def command_line(*arguments, **environment):
    command = [sys.executable, "-m", "stvsr_cli", "models", *arguments]
    return subprocess.run(command, env=clean_environment() | environment, capture_output=True, text=True)


def test_the_endpoint_and_the_proxy_of_the_environment_are_used(root, tmp_path):
    with fake_hub(FILES) as served:
        environment = {
            "HF_HOME": str(tmp_path / "hf"),
            "HF_ENDPOINT": "http://hub.invalid",
            "HTTP_PROXY": served.url,
            "http_proxy": served.url,
        }
        result = command_line("pull", "osdenhancer", "--repo", REPO, **environment)
    assert result.returncode == 0, result.stderr
    assert set(served.proxied) == {"hub.invalid"} and files_in(root / "osdenhancer")


def test_without_network_one_line_says_which_files_to_put_where(root, tmp_path):
    result = command_line("pull", "osdenhancer", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))
    assert result.returncode == 5
    (line,) = result.stderr.splitlines()
    for words in ("127.0.0.1:9", "transformer/*", "prompt_embeddings/*", "W-Shuoyan/OSDEnhancer",
                  str(root / "osdenhancer"), "--weights"):  # fmt: skip
        assert words in line


# import and remove


@pytest.fixture
def pickled(tmp_path):
    """A checkpoint in the outer form of DLoRAL's."""
    tree = {"state_dict_unet": {"conv.weight": torch.ones(2, 3)}, "state_dict_bpp": {"a.bias": torch.zeros(4)}}
    for expert in ("quality", "consistency"):
        tree[f"lora_rank_unet_{expert}"] = 2
        for part in ("encoder", "decoder", "others"):
            tree[f"unet_lora_{part}_modules_{expert}"] = [f"{part}.layer"]
    torch.save(tree, tmp_path / "model.pkl")
    return tmp_path / "model.pkl"


def test_a_pickle_is_imported_once(pickled, root):
    result = run("import", pickled)
    assert result.exit_code == 0, result.stderr
    assert "models pull dloral" in result.stdout
    target = root / "dloral" / "model.safetensors"
    assert torch.equal(read_checkpoint(target).unet["conv.weight"], torch.ones(2, 3))
    with safe_open(target, "pt") as file:
        assert sorted(file.keys()) == ["retrieval.a.bias", "unet.conv.weight"]
    assert "1 files" in run("verify", "dloral").stdout
    assert run("import", pickled).exit_code == 4
    assert run("import", pickled, "--overwrite").exit_code == 0


def test_fetching_the_base_keeps_what_was_imported(pickled, hub, root):
    run("import", pickled)
    names = [p.replace("*", "merges.txt") for p in find_model("dloral").source.files]
    hub.files = dict.fromkeys(names, b"{}")
    assert pull("--revision", "main", name="dloral").exit_code == 0
    assert "ready" in run("show", "dloral").stdout
    assert f"{len(names) + 1} files" in run("verify", "dloral").stdout


def test_what_is_no_checkpoint_is_not_imported(tmp_path, root):
    for content in (b"", b"not a pickle"):
        (tmp_path / "model.pkl").write_bytes(content)
        assert run("import", tmp_path / "model.pkl").exit_code == 5
    torch.save({"weights": torch.ones(1)}, tmp_path / "model.pkl")
    assert "lacks" in one_line(run("import", tmp_path / "model.pkl"))
    assert "Google Drive" in one_line(run("import", tmp_path / "none.pkl"))
    assert not root.exists()


def test_removing_needs_a_yes_and_leaves_the_others(hub, root):
    pull()
    (root / "compact").mkdir()
    assert run("remove", "osdenhancer").exit_code == 2 and (root / "osdenhancer").exists()
    assert run("remove", "osdenhancer", "--yes").exit_code == 0
    assert shown_in(root) == ["compact"]


def test_the_options_that_show_prints_exist():
    known = {
        flag
        for parameter in get_command(app).commands["upscale"].params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    for name, entry in MODELS.items():
        line = next(line for line in run("show", name).stdout.splitlines() if line.startswith("options"))
        flags = line.split(maxsplit=1)[1].split(", ")
        assert flags == (entry.flags or ["none"])
        assert set(entry.flags) <= known
