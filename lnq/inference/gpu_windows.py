"""The sliding window on the network's device: windows run in batches, in half precision, and are blended there.

Where the device's memory is too small, less of it is used: fewer windows at a time, then blending on the CPU, then all
work on the CPU. Each change of plan is reported to the user in a sentence.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lnq.inference.sliding_window import Predict, Window, gaussian_weights, pad_to, sliding_window, windows
from lnq.inference.spec import IntTriple

MAX_BATCH = 8  # windows; larger batches are no faster
_MEMORY_SHARE = 0.8  # fraction of the free memory
_NAMES = {torch.float16: "half precision", torch.bfloat16: "bfloat16", torch.float32: "single precision"}


class NotFinite(ArithmeticError):
    """The network gave infinities or NaN: its values left the precision's range."""


class DeviceWindows:
    """A network on a device, with the sliding window of `lnq.inference.sliding_window` around it.

    `network`: on the CPU, in single precision. `precisions` are tried in order: when values overflow, the next one is
    used from then on. `on_cpu` loads a CPU network for images of which not even one window fits into the memory.
    """

    def __init__(
        self,
        network: nn.Module,
        device: str,
        precisions: Sequence[torch.dtype] = (torch.float32,),
        on_cpu: Callable[[], Predict] | None = None,
        max_batch: int = MAX_BATCH,
    ) -> None:
        self._network = network.eval()
        self._device = torch.device(device)
        self._precisions = list(precisions)
        self._on_cpu = functools.cache(on_cpu) if on_cpu is not None else None
        self._max_batch = max_batch
        self._moved: nn.Module | None = None  # the network on the device, in the current precision

    def predict(self, patches: np.ndarray) -> np.ndarray:
        """Float32 [B, 1, Z, Y, X] -> logits float32 [B, 2, Z, Y, X], in one batch.

        Raises NotFinite where values overflow, and torch's RuntimeError where memory is too small.
        """
        with torch.inference_mode():
            logits = self._forward(torch.from_numpy(patches).to(self._device)).cpu().numpy()
        if not np.isfinite(logits).all():
            raise NotFinite
        return logits

    def sliding_window(
        self, image: np.ndarray, patch: IntTriple, step: float, mirror: int, region: np.ndarray | None
    ) -> tuple[np.ndarray, list[str]]:
        """The result of `lnq.inference.sliding_window`, and a sentence for the user for each change of plan.

        Raises ValueError where the network gives no finite values in any precision.
        """

        def on_cpu(predict: Callable[[], Predict]) -> np.ndarray:
            return sliding_window(image, predict(), patch, step, mirror, region)

        ways: list[tuple[str, Callable[[], np.ndarray]]] = []  # from the fastest to the most frugal
        batch = self._max_batch
        while batch:
            sentence = f"The GPU's memory did not suffice: {batch} window{'s' if batch > 1 else ''} at a time."
            ways.append((sentence, functools.partial(self._blend, image, patch, step, mirror, region, batch)))
            batch //= 2
        sentence = "The GPU's memory did not suffice for the whole image: it was put together on the CPU."
        ways.append((sentence, lambda: on_cpu(lambda: self.predict)))
        if self._on_cpu is not None:
            load = self._on_cpu
            ways.append(("The GPU's memory did not suffice for one window: the CPU did it.", lambda: on_cpu(load)))
        overflowed: list[str] = []
        for number, (sentence, way) in enumerate(ways):
            while True:
                try:
                    return way(), [*overflowed, *([sentence] if number else [])]
                except NotFinite:
                    overflowed.append(self._next_precision())
                except RuntimeError as error:
                    if number == len(ways) - 1 or not _is_out_of_memory(error):
                        raise
                    break
            self._free()  # The except clause has ended here: until then its error keeps memory in use.
        raise AssertionError("the last way returns or raises")

    def _blend(
        self,
        image: np.ndarray,
        patch: IntTriple,
        step: float,
        mirror: int,
        region: np.ndarray | None,
        max_batch: int,
    ) -> np.ndarray:
        """Run and blend up to `max_batch` windows at a time on the device; float32 [Z, Y, X]."""
        padded, wanted, inner = pad_to(patch, image, region)
        every = list(windows(wanted, patch, step))
        with torch.inference_mode():
            pixels = torch.from_numpy(padded).to(self._device)
            evidence, weight = torch.zeros_like(pixels), torch.zeros_like(pixels)
            gaussian = torch.from_numpy(gaussian_weights(patch)).to(self._device)
            finite = torch.ones((), dtype=torch.bool, device=self._device)
            batch, done = 1, 0  # The first window runs alone: it shows how much memory one takes.
            self._watch_memory()
            while done < len(every):
                own = every[done : done + batch]
                log_odds = self._log_odds(pixels, own, mirror)
                finite &= torch.isfinite(log_odds).all()
                for window, odds in zip(own, log_odds, strict=True):
                    evidence[window.place] += gaussian * odds
                    weight[window.place] += gaussian
                done += len(own)
                batch = min(max_batch, self._batch_that_fits()) if done == 1 else batch
            if not finite:
                raise NotFinite
            covered = weight > 0
            probability = torch.where(covered, torch.sigmoid(evidence / weight.where(covered, 1)), 0)
            return probability[inner].cpu().numpy()

    def _log_odds(self, pixels: Tensor, batch: Sequence[Window], mirror: int) -> Tensor:
        """Logit of node minus logit of background, float32 [B, Z, Y, X], in windows of an image [Z, Y, X]."""
        passes = list(zip(*(window.flips(mirror) for window in batch), strict=True))
        total = torch.zeros((), device=pixels.device)
        for flips in passes:
            turns = [[axis for axis, backwards in enumerate(flip) if backwards] for flip in flips]
            patches = [pixels[window.place].flip(turn) for window, turn in zip(batch, turns, strict=True)]
            logits = self._forward(torch.stack(patches)[:, None])
            odds = logits[:, 1] - logits[:, 0]
            total = total + torch.stack([one.flip(turn) for one, turn in zip(odds, turns, strict=True)])
        return total / len(passes)

    def _forward(self, patches: Tensor) -> Tensor:
        precision = self._precisions[0]
        if self._moved is None:
            self._moved = copy.deepcopy(self._network).to(self._device, precision)
        return self._moved(patches.to(precision)).float()

    def _watch_memory(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def _batch_that_fits(self) -> int:
        """How many windows fit at a time, by the first one's peak and the free memory. On a CPU, one."""
        if self._device.type != "cuda":
            return 1
        held, peak = torch.cuda.memory_allocated(self._device), torch.cuda.max_memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(self._device) - held
        return max(1, int(_MEMORY_SHARE * free / max(1, peak - held)))

    def _next_precision(self) -> str:
        """Switch to the next precision and return a sentence for the user. Raises ValueError after the last one."""
        failed, *rest = self._precisions
        if not rest:
            raise ValueError("The network gives values that are not finite") from None
        self._precisions, self._moved = rest, None
        return f"The network's values overflowed in {_NAMES[failed]}: {_NAMES[rest[0]]} was used."

    def _free(self) -> None:
        """Give unused memory back to the device."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out. Torch has an error class for it; its libraries put a status into the text."""
    return isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)
