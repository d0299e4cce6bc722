"""The sliding window where the network is: windows in batches, half precision, blended on the device.

What does not fit into the device's memory is done with less of it: fewer windows at a time, then blending on the CPU,
then all of it on the CPU. Whatever had to be done otherwise than planned is told in a sentence.
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

MAX_BATCH = 8  # windows; more fill no GPU any better
_MEMORY_SHARE = 0.8  # of what is free
_NAMES = {torch.float16: "half precision", torch.bfloat16: "bfloat16", torch.float32: "single precision"}


class NotFinite(ArithmeticError):
    """The network gave infinities or no numbers: its values left the precision's range."""


class DeviceWindows:
    """A network on a device, with the sliding window of `lnq.inference.sliding_window` around it.

    `network`: on the CPU, in single precision. `precisions`: tried in this order, the next when values overflow; it
    stays with the one that did not. `on_cpu` loads what predicts where the device's memory does not hold a window.
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
        self._moved: nn.Module | None = None  # on the device, in the precision

    def predict(self, patches: np.ndarray) -> np.ndarray:
        """Float32 [B, 1, Z, Y, X] -> logits float32 [B, 2, Z, Y, X], all at once.

        Raises NotFinite, and torch's RuntimeError where memory does not suffice.
        """
        with torch.inference_mode():
            logits = self._forward(torch.from_numpy(patches).to(self._device)).cpu().numpy()
        if not np.isfinite(logits).all():
            raise NotFinite
        return logits

    def sliding_window(
        self, image: np.ndarray, patch: IntTriple, step: float, mirror: int, region: np.ndarray | None
    ) -> tuple[np.ndarray, list[str]]:
        """As `lnq.inference.sliding_window` does it; and a sentence for each thing that went otherwise than planned.

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
            self._free()  # after the except clause, which holds on to what failed
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
        """Everything on the device, up to so many windows at a time."""
        padded, wanted, inner = pad_to(patch, image, region)
        every = list(windows(wanted, patch, step))
        with torch.inference_mode():
            pixels = torch.from_numpy(padded).to(self._device)
            evidence, weight = torch.zeros_like(pixels), torch.zeros_like(pixels)
            gaussian = torch.from_numpy(gaussian_weights(patch)).to(self._device)
            finite = torch.ones((), dtype=torch.bool, device=self._device)
            batch, done = 1, 0  # the first window alone: it shows what one takes
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
        """Logit of node less logit of background in windows of an image [Z, Y, X], float32 [B, Z, Y, X]."""
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
        """Windows at a time, by what the first one took at most and what is left; one on a CPU."""
        if self._device.type != "cuda":
            return 1
        held, peak = torch.cuda.memory_allocated(self._device), torch.cuda.max_memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(self._device) - held
        return max(1, int(_MEMORY_SHARE * free / max(1, peak - held)))

    def _next_precision(self) -> str:
        """Go on with the next precision; returns what to tell. Raises ValueError after the last."""
        failed, *rest = self._precisions
        if not rest:
            raise ValueError("The network gives values that are not finite") from None
        self._precisions, self._moved = rest, None
        return f"The network's values overflowed in {_NAMES[failed]}: {_NAMES[rest[0]]} was used."

    def _free(self) -> None:
        """Give memory back that nothing uses."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory was short: torch says so itself, its libraries by their status."""
    return isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)
