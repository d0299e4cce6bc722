from helpers.paths import ROOT

from lnq.inference import bundle


def test_the_shipped_bundle_is_the_source_trees_unless_one_is_installed(tmp_path, monkeypatch):
    assert bundle.shipped_bundle() == ROOT / "model"
    (tmp_path / "lnq" / "model").mkdir(parents=True)
    monkeypatch.setattr(bundle, "_PACKAGE", tmp_path / "lnq")
    assert bundle.shipped_bundle() == tmp_path / "lnq" / "model"


def test_a_mounted_bundle_wins_unless_it_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "MOUNTED", tmp_path / "mounted")
    assert bundle.default_bundle() == ROOT / "model"
    (tmp_path / "mounted").mkdir()
    assert bundle.default_bundle() == ROOT / "model"
    (tmp_path / "mounted" / "spec.json").touch()
    assert bundle.default_bundle() == tmp_path / "mounted"
