"""Predict in a process of its own: where OpenVINO has run a network of its own format, torch crashes when it trains."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from helpers.paths import ROOT

CODE = """
import sys
import numpy as np
from lnq.inference.backends import load_model
bundle, precision, patches, logits = sys.argv[1:]
model = load_model(bundle, "cpu", 1, precision)
print(model.backend, model.device, model.precision)
np.save(logits, model.networks[0].predict(np.load(patches)))
"""


def predict_apart(bundle: Path, precision: str, patches: np.ndarray, folder: Path) -> tuple[np.ndarray, str]:
    """Logits, and the model's backend, device and precision."""
    np.save(folder / "patches.npy", patches)
    files = [str(folder / name) for name in ("patches.npy", "logits.npy")]
    command = [sys.executable, "-c", CODE, str(bundle), precision, *files]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    return np.load(files[1]), done.stdout.strip()
