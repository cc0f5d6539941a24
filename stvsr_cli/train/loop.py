"""The training loop: steps, averaged weights, checkpoints, validation and log; resumes exactly."""

import csv
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.catalogue import find_model, training_of
from stvsr_cli.runtime.parts import replacing
from stvsr_cli.train.clips import build_cache, sources_in
from stvsr_cli.train.config import StageConfig, read_config
from stvsr_cli.train.losses import Perceptual
from stvsr_cli.train.origin import find_start, load_part, load_weights, losses_within, settings_of
from stvsr_cli.train.plot import plot_log
from stvsr_cli.train.publish import publish
from stvsr_cli.train.samples import Batch, StepDataset, batches
from stvsr_cli.train.stage import Stage, Teaching, features_in, total, train_only
from stvsr_cli.train.validate import Validation

logger = logging.getLogger(__name__)

CRITIC = "critic."
"""Prefix of the parameters of a critic, which is trained against the rest."""
WORTH = {"psnr": 1.0, "psnr_mid": 1.0, "perc": -2.0, "weave": -4.0}
"""What validation's measures count when the best weights are chosen."""


def learning_rate(config: StageConfig, step: int) -> float:
    """Linear warm-up, then a cosine to `final_rate`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    low, high = config.final_rate, config.learning_rate
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


class Averaged:
    """Exponential moving average of the trained parameters."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        named = network.named_parameters(remove_duplicate=False)  # one that modules share has a name in each
        self.values = {n: p.detach().clone() for n, p in named if p.requires_grad}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network's parameters; faster in the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = {name: p.detach() for name, p in network.named_parameters(remove_duplicate=False) if name in self.values}
        torch._foreach_lerp_([self.values[name] for name in now], list(now.values()), 1 - decay)

    def state(self, network: nn.Module) -> dict[str, Tensor]:
        """The network's whole state with averaged parameters in place of the trained ones."""
        return {name: self.values.get(name, tensor) for name, tensor in network.state_dict().items()}


def build(config: StageConfig, features: Path | None) -> tuple[Any, Stage[Any], Perceptual | None]:
    """Return the network, the stage and the perceptual features a configuration asks for.

    Raises UsageError where `trains` names what the stage does not train.
    """
    built: tuple[Any, Stage[Any], Perceptual | None]
    built = import_module(training_of(find_model(config.model)).module).build(config, features)
    if config.trains:
        _narrow(built[0], config.trains)
    if not any(parameter.requires_grad for parameter in built[0].parameters()):
        raise UsageError(
            f"the stage {config.stage} trains nothing: its parts are switched off in the network.",
            hint="Switch them on under [network].",
        )
    return built


def _begun(
    config: StageConfig, features: Path | None, start: Path | None
) -> tuple[StageConfig, tuple[Any, Stage[Any], Perceptual | None]]:
    """Build a stage on the settings of the weights that it starts from, with the losses for which they have what it takes."""
    config = replace(config, network=settings_of(start) | config.network)
    built = build(config, features)
    losses = losses_within(config, built[1].relies_on, start)
    if losses == config.losses:
        return config, built
    config = replace(config, losses=losses)
    return config, build(config, features)


def _narrow(network: nn.Module, prefixes: tuple[str, ...]) -> None:
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in trained):
            raise UsageError(f"trains: the stage trains no parameter that begins with {prefix!r}.")
    train_only(network, lambda name: name in trained and name.startswith(prefixes))


class Trainer:
    """One stage, from its configuration to its weights in the output folder."""

    def __init__(self, config: StageConfig, *, data: Path, out: Path, cache: Path, device: torch.device) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.device = out, device
        self.dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        features = features_in(data, config)
        start = find_start(config, out)
        self.config, (self.network, self.stage, perceptual) = _begun(config, features, start)
        if start is not None:
            load_weights(self.network, start, self.stage.adds)
        for prefix, path in config.start_parts.items():
            load_part(self.network, out / path, prefix)
        self.network.to(device)
        if config.compile and device.type == "cuda":
            self.network.compile()
        self.perceptual = perceptual.to(device) if perceptual else None
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.teacher = self._teacher(data)
        self.optimiser = torch.optim.AdamW(
            trained, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=device.type == "cuda"
        )
        self.averaged = Averaged(self.network, config.ema_decay)
        self.step = 0
        self.best = -math.inf
        self.seconds = 0.0
        kept_apart = data / config.data.validation if config.data.validation else None
        clips = build_cache(sources_in(data, config.data.sources), cache, without=kept_apart, workers=config.workers)
        self.dataset = StepDataset(clips, cache, config)
        self.validation = None
        if kept_apart and not kept_apart.is_dir():
            logger.warning("there is no %s: nothing is validated", kept_apart)
        elif kept_apart:
            measure = Perceptual(features).to(device) if features else None
            self.validation = Validation(kept_apart, self.network.config.multiple_px, measure)

    def _teacher(self, data: Path) -> Teaching | None:
        if not self.config.data.live_lessons:
            return None
        if not self.config.data.teacher:
            raise UsageError("live_lessons asks for a teacher.", hint="Set teacher under [data].")
        if self.stage.teacher is None:
            raise UsageError(f"the stage {self.config.stage} learns from no teacher.", hint="Leave live_lessons out.")
        return self.stage.teacher(data / self.config.data.teacher).to(self.device)

    @property
    def state_path(self) -> Path:
        """Where the stage's training state lies."""
        return self.out / f"{self.config.stage}.state.pt"

    @property
    def log_path(self) -> Path:
        """Where the losses and measures of the stage are written as a table."""
        return self.out / f"{self.config.stage}.csv"

    def resume(self) -> None:
        """Go on from the saved training state. Raises ModelError if there is none or it does not fit."""
        try:
            state = torch.load(self.state_path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"cannot resume from {self.state_path}: {error}.", hint="Start without --resume."
            ) from error
        self.averaged.values = state["averaged"]
        self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
        torch.set_rng_state(state["random"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"].cpu(), self.device)

    def save(self) -> None:
        """Write the training state and the averaged weights, each under a temporary name first."""
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "averaged": self.averaged.values,
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        with replacing(self.state_path) as part:
            torch.save(state, part)
        self.save_weights(self.out / f"{self.config.stage}.safetensors")

    def save_weights(self, path: Path) -> None:
        """Write the averaged weights in half precision."""
        tensors = {n: t.detach().half().contiguous().cpu() for n, t in self.averaged.state(self.network).items()}
        with replacing(path) as part:
            save_file(tensors, part, metadata={"stage": self.config.stage, "step": str(self.step)})

    def publish(self, name: str) -> Path:
        """Write the averaged weights as a folder that the model's `load` reads, and return it."""
        folder, export, state = self.out / name, self.stage.export, self.averaged.state(self.network)
        if export is None:
            raise ValueError(f"the stage {self.config.stage} does not say how it is written")
        publish(folder, lambda part: export(self.network, state, part))
        return folder

    def train(self, *, max_minutes: float | None, report: Callable[[str], None]) -> None:
        """Run to the last step, or until `max_minutes` have passed; saves at the end in either case."""
        begin = last = time.monotonic()
        if not self.step:
            self.log_path.unlink(missing_ok=True)
        try:
            for batch in batches(self.dataset, self.step, self.device):
                losses = self._one(batch)
                self.step += 1
                now = time.monotonic()
                self.seconds += now - last
                last = now
                if self.step % self.config.log_every == 0:
                    values = {name: float(value) for name, value in losses.items()}
                    self._log("train", values)
                    text = " ".join(f"{name} {value:.4f}" for name, value in values.items())
                    report(
                        f"{self.config.stage} {self.step}/{self.config.steps} {text} {self.seconds / self.step:.3f} s/step"
                    )
                if self.step % self.config.save_every == 0:
                    self.save()
                if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                    self._validate(report)
                if max_minutes is not None and now - begin > max_minutes * 60:
                    break
        finally:
            self.save()
            folder = self.publish(self.config.stage)
            report(f"{folder} is ready for `stvsr upscale --model {self.config.model} --weights {folder}`")
            if self.log_path.exists():
                plot_log(self.log_path, self.log_path.with_suffix(".png"))

    def _one(self, batch: Batch) -> dict[str, Tensor]:
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        moved = batch.to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if self.teacher is not None and moved.taught is None:
                moved = self.teacher.taught(moved)
            losses = self.stage.losses(self.network, moved, self.perceptual)
        loss = total(losses, self.config.weights_at(self.step))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip():
            self.optimiser.step()
            self.averaged.update(self.network, self.step)
        else:
            logger.warning("step %d: gradient not finite; step left out", self.step)
        return {name: value.detach() for name, value in losses.items()}

    def _clip(self) -> bool:
        """Clip the gradients, those of a critic apart, and say whether they are finite."""
        named = [(n, p) for n, p in self.network.named_parameters() if p.requires_grad]
        critic, other = [p for n, p in named if n.startswith(CRITIC)], [p for n, p in named if not n.startswith(CRITIC)]
        norms = [nn.utils.clip_grad_norm_(part, self.config.clip_norm) for part in (other, critic) if part]
        return bool(torch.isfinite(torch.stack(norms)).all())

    def _validate(self, report: Callable[[str], None]) -> None:
        if self.validation is None:
            return
        kept = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.averaged.state(self.network))
        self.network.eval()
        values = self.validation.run(self.network, self.device, self.dtype, self.out / f"{self.config.stage}-grid.png")
        self.network.load_state_dict(kept)
        self._log("validate", values)
        report("validate " + " ".join(f"{name} {value:.3f}" for name, value in values.items()))
        score = sum(WORTH.get(name.partition("_")[2], 0.0) * value for name, value in values.items())
        if score > self.best:
            self.best = score
            self.save_weights(self.out / f"{self.config.stage}.best.safetensors")
            self.publish(f"{self.config.stage}.best")

    def _log(self, kind: str, values: dict[str, float]) -> None:
        new = not self.log_path.exists()
        with self.log_path.open("a", newline="") as handle:
            writer = csv.writer(handle)
            if new:
                writer.writerow(["step", "seconds", "kind", "name", "value"])
            for name, value in values.items():
                writer.writerow([self.step, round(self.seconds, 1), kind, name, f"{value:.6g}"])


def run(
    config_path: Path,
    *,
    data: Path,
    out: Path,
    cache: Path,
    resume: bool = False,
    max_minutes: float | None = None,
    device: torch.device | None = None,
    report: Callable[[str], None] = logger.info,
) -> None:
    """Train the stage a configuration file describes.

    Raises UsageError for a wrong configuration, InputError for missing data, ModelError for unfit weights.
    """
    config = read_config(config_path)
    trainer = Trainer(config, data=data, out=out, cache=cache, device=device or torch.device("cpu"))
    (out / f"{config.stage}.config.json").write_text(_as_json(trainer.config))
    if resume:
        trainer.resume()
    trainer.train(max_minutes=max_minutes, report=report)


def _as_json(config: StageConfig) -> str:
    return json.dumps(asdict(config), indent=1)
