"""The compact model with each of its ideas taken out, all trained on for the same steps and measured alike.

    python -m tests.benchmark.ablation --data DATA --start WEIGHTS --out RUNS [--detail-steps 300]

DATA holds `train/`, `photos*.tar`, `val/` and `squeezenet1_1.safetensors`. WEIGHTS has all modules; those that ship lack
some. Each variant starts from them without the tensors of what is taken out, and without the detail expert. With
`--detail-steps`, each is also given a new detail expert, and measured once more with it at full strength. What a former
run left under RUNS is not trained again. Differences are the variant's minus the whole network's, over the same clips,
with their standard error.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.model import CONFIG_FILE, WEIGHTS_FILE, load, read_config, write_config
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.train.evaluate import Excerpt, differences, evaluate, mean_values, write_rows
from stvsr_cli.train.loop import run
from stvsr_cli.train.losses import Perceptual
from stvsr_cli.train.validate import TRACKS

CPU = torch.device("cpu")
VARIANTS = {
    "whole": {},
    "no motion residual": {"uses_residual": False},
    "no context aggregation": {"uses_aggregation": False},
    "no deformable alignment": {"uses_alignment": False},
    "no diffusion step": {"uses_denoiser": False},
    "no video guidance": {"uses_guidance": False},
    "no temporal expert": {"uses_temporal_expert": False},
    "no retrieval": {"uses_retrieval": False},
}
MEASURES = ("psnr", "psnr_mid", "perc", "sharp", "temporal")
ONE_STEP = """learning_rate = 4e-4
losses = { pixel = 1.0, between = 0.3, temporal = 0.6 }
"""
DETAIL = """learning_rate = 1e-3
perceptual_weights = "squeezenet1_1.safetensors"
losses = { pixel = 5.0, perceptual = 0.3, temporal = 25.0, even = 0.4, grid = 30.0 }
"""
RECIPE = """model = "compact"
stage = "{stage}"
steps = {steps}
batch = 4
crop_px = 128
keyframes = 3
whole_px = 32
warmup_steps = 20
ema_decay = 0.98
start_from = "start.safetensors"
validate_every = 1000000
{settings}

[network]
{network}

[data]
sources = ["train/shard-0.tar", "train/shard-1.tar", "train/shard-2.tar", "train/shard-3.tar", "photos.tar", "photos-2.tar"]
seed = 2
"""


def run_stage(stage, settings, steps, config, folder, data, cache):
    """Train `start.safetensors` in the folder on by a stage; leaves the folder as weights that can be loaded."""
    default = asdict(CompactConfig())
    network = [f"{name} = {json.dumps(value)}" for name, value in asdict(config).items() if value != default[name]]
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(stage=stage, settings=settings, steps=steps, network="\n".join(network)))
    run(recipe, data=data, out=folder, cache=cache, device=CPU)
    write_config(config, folder / CONFIG_FILE)
    (folder / f"{stage}.safetensors").replace(folder / WEIGHTS_FILE)


def trained(changes, start, folder, arguments):
    """Train a variant on; returns its configuration."""
    config = replace(read_config(start / CONFIG_FILE), **changes)
    if not (folder / WEIGHTS_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        wanted = CompactNetwork(config).state_dict()
        tensors = load_file(str(start / WEIGHTS_FILE))
        save_file({name: tensor for name, tensor in tensors.items() if name in wanted}, folder / "start.safetensors")
        run_stage("one_step", ONE_STEP, arguments.steps, config, folder, arguments.data, arguments.cache)
    return config


def detailed(config, folder, arguments):
    """Give a trained variant a new detail expert; returns the folder with both."""
    out = folder / "detail"
    if not (out / WEIGHTS_FILE).exists():
        out.mkdir(parents=True, exist_ok=True)
        (out / "start.safetensors").write_bytes((folder / WEIGHTS_FILE).read_bytes())
        run_stage("detail", DETAIL, arguments.detail_steps, config, out, arguments.data, arguments.cache)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--keyframes", type=int, default=4)
    parser.add_argument("--detail-steps", type=int, default=0)
    arguments = parser.parse_args()
    arguments.cache = arguments.cache or arguments.out / "cache"
    perceptual = Perceptual(arguments.data / "squeezenet1_1.safetensors")
    excerpt = Excerpt(keyframes=arguments.keyframes, crop_px=arguments.crop)
    whole = {}
    for name, changes in VARIANTS.items():
        torch.manual_seed(0)
        folder = arguments.out / name.replace(" ", "_")
        config = trained(changes, arguments.start, folder, arguments)
        runs = [(folder, 0.0)] + ([(detailed(config, folder, arguments), 1.0)] if arguments.detail_steps else [])
        for weights, detail in runs:
            model = load(weights, CPU, torch.bfloat16)
            rows = list(
                evaluate(model, arguments.data / "val", excerpt, device=CPU, perceptual=perceptual, detail=detail)
            )
            write_rows(rows, arguments.out / f"{folder.name}_{detail:g}.csv")
            base = whole.setdefault(detail, rows)
            for track in TRACKS:
                means, changed = mean_values(rows, track), differences(rows, base, track)
                print(f"{name:<24} detail {detail:g} {track:<6}",
                      *(f"{m} {means[m]:.3f} ({changed[m][0]:+.3f} ± {changed[m][1]:.3f})" for m in MEASURES), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
