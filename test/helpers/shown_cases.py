"""Cases as the data set's page sees them, with made-up measurements, and a prepared folder of chests with faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.prepared_cases import SPACING_MM

from training.data.certain import CertainFacts
from training.data.measures.record import VERSION, CaseMeasures, MarkedNode, Shift, SourceMeasures
from training.data.prepared import CaseInfo
from training.dataset_page.cases import ShownCase


def marked(**others: Any) -> MarkedNode:
    """A node of soft tissue in the mediastinum."""
    values: dict[str, Any] = {
        "box": ((5, 10, 9), (7, 15, 12)),
        "volume_mm3": 900.0,
        "mean_hu": 60.0,
        "air": 0.0,
        "bright": 0.0,
        "bright_hu": 0.0,
        "bright_spread_hu": 0.0,
        "outside": 0.0,
        "side": "left",
        "above_carina_mm": 12.0,
    }
    return MarkedNode(**values | others)


def source(**others: Any) -> SourceMeasures:
    """A CT of 2.5 mm with one node."""
    values: dict[str, Any] = {
        "spacing_mm": (2.5, 0.8, 0.8),
        "field_mm": (300.0, 350.0, 350.0),
        "oriented": True,
        "short_axes_mm": (9.0,),
        "volumes_mm3": (900.0,),
        "slivers": (),
    }
    return SourceMeasures(**values | others)


def shift(**others: Any) -> Shift:
    """A label that fits best where it lies."""
    values: dict[str, Any] = {
        "best_mm": (0.0, 0.0, 0.0),
        "edge_hu": 90.0,
        "best_edge_hu": 90.0,
        "soft": 0.95,
        "best_soft": 0.95,
        "agreeing": 0.0,
    }
    return Shift(**values | others)


def measured(**others: Any) -> CaseMeasures:
    """The measurements of a clean case."""
    values: dict[str, Any] = {
        "version": VERSION,
        "nodes": (marked(),),
        "blood_hu": 150.0,
        "shift": shift(),
        "sides": (300, -200, 100, 50),
        "source": source(),
    }
    return CaseMeasures(**values | others)


def shown(name: str = "a", measures: CaseMeasures | None = None, split: str = "train", **others: Any) -> ShownCase:
    """A case of the page. Further arguments are fields of its `CaseInfo`."""
    values: dict[str, Any] = {
        "case": name,
        "full": False,
        "shape": (12, 24, 20),
        "spacing_mm": SPACING_MM,
        "mean_hu": -100.0,
        "std_hu": 50.0,
        "node_centres": ((6, 12, 10),),
        "node_volumes_mm3": (900.0,),
        "label_lost": 0.0,
        "patient": name,
    }
    certain = CertainFacts(1, (-100.0, 150.0), 0.96, 0.8)
    return ShownCase(Path("nowhere") / name, CaseInfo(**values | others), measures or measured(), certain, split)
