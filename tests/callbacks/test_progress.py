from types import SimpleNamespace

from pytorch_lightning.callbacks import RichProgressBar

from medvision.callbacks.progress import choose_progress


def test_the_bar_shows_no_version(monkeypatch):
    shown = {"v_num": "oard", "train/loss": 0.5}
    monkeypatch.setattr(RichProgressBar, "get_metrics", lambda *_: dict(shown))
    bar, _ = choose_progress("val/auroc", bar=True)
    assert bar.get_metrics(SimpleNamespace(), SimpleNamespace()) == {"train/loss": 0.5}
