import pytest

from phantom import Phantom, make_phantom

GRID = {"spacing_mm": (4.0, 1.6, 1.6), "size": (64, 224, 224)}


@pytest.fixture(scope="session")
def venous() -> Phantom:
    return make_phantom(21, phase="venous", **GRID)


@pytest.fixture(scope="session")
def plain() -> Phantom:
    return make_phantom(22, phase="none", **GRID)


@pytest.fixture(scope="session")
def without_contrast() -> Phantom:
    """A phantom that nodes are inserted into."""
    return make_phantom(3, spacing_mm=(4.0, 1.6, 1.6), phase="none")
