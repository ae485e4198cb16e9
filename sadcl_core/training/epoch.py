"""The steps of one epoch: a batch, its losses, one step of the optimiser, the EMA, the bank."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from contextlib import nullcontext

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from sadcl_core.data.dataset import Batch
from sadcl_core.data.loader import ImageLoader
from sadcl_core.data.mixing import mix
from sadcl_core.errors import MachineError
from sadcl_core.runtime.distributed import all_reduce, all_reduce_min, get_rank, get_world_size
from sadcl_core.runtime.seeds import seed_of
from sadcl_core.training.context import Training
from sadcl_core.training.listeners.estimate import say_how_long
from sadcl_core.training.listeners.events import Note, StepDone
from sadcl_core.training.saving import StageState, save_stage
from sadcl_core.training.terms import TERMS, counts, refuse_not_finite, weighted_sum

STARVED = ("could not create a primitive", "bad_alloc", "Cannot allocate memory")  # what libraries below torch say on the CPU
COMPILER = ("torch._dynamo", "torch._inductor")  # modules of what torch.compile raises
METRICS_EVERY = 10  # steps between two lines of metrics.jsonl


def train_epoch(training: Training, state: StageState, loader: ImageLoader) -> dict[str, float]:
    """What is left of an epoch; returns the mean of the loss and of each term over all of it."""
    stage, done, before = state.place, state.place.step, state.place.seconds
    state.classifier.train()
    since = time.perf_counter()
    for step, batch in enumerate(loader.epoch(stage.epoch, skip=done), start=done + 1):
        values = _take_step(training, state, batch, step)
        stage.step = step
        for key, value in values.items():
            stage.sums[key] = stage.sums.get(key, 0.0) + value
        stage.seconds, since = stage.seconds + time.perf_counter() - since, time.perf_counter()
        lr = peak_rate(state)
        if step % METRICS_EVERY == 0 or step == state.steps:
            line = {"stage": stage.stage, "epoch": stage.epoch, "step": step, "lr": lr, **values}
            training.run.append_metrics(line)
        training.listen(StepDone(stage.epoch, step, len(batch[0]) * get_world_size(), values, lr))
        say_how_long(training, state, steps=step - done, seconds=stage.seconds - before)
        training.interrupts.check_together()
        every = training.config.save_every
        if every and step % every == 0 and step < state.steps:
            with training.interrupts.waiting():
                save_stage(training, state)
    return {key: value / max(stage.step, 1) for key, value in stage.sums.items()}


def peak_rate(state: StageState) -> float:
    """The highest learning rate in use, which is the stage's own."""
    return max(float(rate) for rate in state.schedule.get_last_lr())


def _take_step(training: Training, state: StageState, batch: Batch, step: int) -> dict[str, float]:
    """One step, again with smaller parts of the batch when memory runs out."""
    while True:
        try:
            return _optimise(training, state, batch, step)
        except Exception as error:
            if type(error).__module__.startswith(COMPILER):
                said = str(error).strip().splitlines()[0][:200]
                raise MachineError(f"torch.compile does not work here ({said}). Leave --compile out.") from None
            if not ran_out_of_memory(error):
                raise
            _cut_smaller(training, state, images=len(batch[0]), error=error)


def _optimise(training: Training, state: StageState, batch: Batch, step: int) -> dict[str, float]:
    accelerator, stage, config = training.accelerator, state.place, training.config
    images, targets = _on_device(training, state, batch, step)
    parts = _cut(images, targets, number=training.accumulate, of=len(batch[0]))
    whole = _totals([targets for _, targets in parts]) if len(parts) > 1 else {}
    values: defaultdict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=training.device))
    remembered: list[tuple[Tensor, Tensor]] = []
    state.optimizer.zero_grad()
    for number, (some, their_targets) in enumerate(parts, start=1):
        torch.manual_seed(seed_of(state.seed, stage.epoch, step, get_rank(), number))
        with nullcontext() if number == len(parts) else accelerator.no_sync(state.model):
            with accelerator.autocast():
                terms, *rows = state.model(some, their_targets)
            if whole:
                shares = _totals([their_targets])
                terms = {name: term * shares[TERMS[name].over] / whole[TERMS[name].over] for name, term in terms.items()}
            loss = weighted_sum(terms, config.stages[stage.stage].weights)
            accelerator.backward(loss)
        for name, value in {"loss": loss, **terms}.items():
            values[name] += value.detach()
        remembered.append((rows[0], rows[1]))
    found = dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
    refuse_not_finite(found, where=f"stage {stage.stage}, epoch {stage.epoch}, step {step}")
    _update(training, state, step)
    if state.bank is not None:
        rows, labels = (torch.cat(parts) for parts in zip(*remembered, strict=True))
        state.bank.write(rows, labels)
    return found


def _cut(images: Tensor, targets: Tensor, *, number: int, of: int) -> list[tuple[Tensor, Tensor]]:
    """A batch in parts, as many in every process and one at most for each image; the views of an image stay together.

    Args:
        images: (B * V, 3, S, S).
        targets: (B * V, K).
        number: of parts, if there are images enough.
        of: B.
    """
    number = min(number, all_reduce_min(of)) if number > 1 else 1
    sizes = [len(part) * len(images) // of for part in torch.arange(of).tensor_split(number)]
    return list(zip(images.split(sizes), targets.split(sizes), strict=True))


def _on_device(training: Training, state: StageState, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S) normalised and targets (B, K) of a batch, each view as an image of its own, mixed if asked for."""
    images, targets, _ = batch
    if images.ndim == 5:  # (B, V, 3, S, S)
        images, targets = images.flatten(0, 1), targets.repeat_interleave(images.shape[1], dim=0)
    images = training.card.preprocessing.normalise(images.to(training.device, non_blocking=True))
    targets = targets.to(training.device, non_blocking=True)
    stage = training.config.stages[state.place.stage]
    generator = torch.Generator().manual_seed(seed_of(state.seed, state.place.epoch, step, get_rank(), "mix"))
    return mix(images, targets, mixup=stage.mixup, cutmix=stage.cutmix, generator=generator)


def _totals(targets: list[Tensor]) -> dict[str, float]:
    """What the terms are means over, of all processes; at least 1."""
    own = [counts(some) for some in targets]
    names = list(own[0])
    total = all_reduce(torch.tensor([sum(one[name] for one in own) for name in names], dtype=torch.float64))
    return dict(zip(names, total.clamp(min=1).tolist(), strict=True))


def _update(training: Training, state: StageState, step: int) -> None:
    """One step of the optimiser, of its schedule and of the EMA."""
    optim = training.config.optim
    state.whole = False  # until all of them have taken it
    if optim.clip_grad_norm:
        training.accelerator.clip_grad_norm_(state.model.parameters(), optim.clip_grad_norm)
    state.optimizer.step()
    state.optimizer.zero_grad()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # fp16 may skip the very first step
        state.schedule.step()
    state.ema.update(state.classifier, step=(state.place.epoch - 1) * state.steps + step)
    state.whole = True


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether it says that a device, or this machine, has no more memory to give."""
    said = str(error)
    starved = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in said for words in STARVED)
    return starved or bool(should_reduce_batch_size(error))


def _cut_smaller(training: Training, state: StageState, *, images: int, error: BaseException) -> None:
    """Cut the batch into twice as many parts.

    Raises:
        MachineError: the parts cannot be smaller, or other processes wait for this one.
    """
    advice = "Use a smaller --img-size, a smaller --backbone, --precision bf16, or --set compute.gradient_checkpointing=true."
    smaller, said = f"--accumulate {2 * training.accumulate}", (str(error) or type(error).__name__).splitlines()[0][:100]
    if not state.whole or training.accelerator.num_processes > 1:
        raise MachineError(f"Memory ran out on {training.device} ({said}). Cut the batch into smaller parts: {smaller}. {advice}")
    if training.accumulate >= images:
        raise MachineError(f"Memory ran out on {training.device} with one image at a time ({said}). {advice}")
    training.accumulate *= 2
    state.optimizer.zero_grad()
    clear_device_cache(garbage_collection=True)
    training.listen(
        Note(
            f"memory ran out on {training.device}: batches are now cut into {training.accumulate} parts whose gradients are "
            f"added, one step for all as before; contrasts are within a part and with the bank. To start so: {smaller}",
            warning=True,
        )
    )
