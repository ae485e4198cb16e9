from __future__ import annotations

from pathlib import Path

from tests.conftest import QUICK, Sadcl


def test_a_resumed_run_shows_where_it_is(sadcl: Sadcl, coco: Path) -> None:
    sadcl("train", "coco", "--data", coco, *QUICK, "--epochs", "1,0")
    ran = sadcl("train", "--resume", "--epochs", "2,0")
    assert "resumes runs/coco at stage classification, epoch 2; with stages.classification.epochs 1 -> 2" in ran.stderr
    assert "about 10 seconds to go" in ran.stderr
    assert "  epoch   2/2" in ran.stderr
    assert ran.stdout.splitlines()[-1] == "results saved to runs/coco"
    ran = sadcl("train", "--resume", "runs/coco", "--epochs", "3,0", "--json", "-q")
    assert ran.stderr == ""
    assert len(Path("runs/coco/results.csv").read_text().splitlines()) == 1 + 3


def test_mistakes_in_resuming(sadcl: Sadcl, coco: Path) -> None:
    Path("empty").mkdir()
    for arguments, code, words in [
        (("--resume",), 3, "There is no run under runs/ with a state to go on from. Name one: --resume RUN."),
        (("--resume", "nowhere"), 3, "nowhere is not a run"),
        (("--resume", "empty"), 3, "empty is not a run"),
        (("--resume", "empty", "-o", "other"), 2, "--resume goes on with a run as it was started. Leave out --output."),
        (("--resume", "empty", "--exist-ok"), 2, "Leave out --exist-ok"),
        (("--resume", "empty", "--preset", "small"), 2, "Leave out --preset"),
    ]:
        ran = sadcl("train", *arguments, code=code)
        assert words in ran.stderr, (arguments, ran.stderr)
        assert ran.stderr.count("Error: ") == 1
    sadcl("train", "coco", "--data", coco, *QUICK, "--epochs", "1,0")
    for more, words in [
        (("--epochs", "1"), "has come to its end"),
        (("--epochs", "2", "-b", "4"), "data.batch_size was 8 when the run was started and cannot be 4"),
        (("--epochs", "many"), "--epochs 'many'"),
        (("--epochs", "2", "--set", "optim.emadecay=1"), "optim.ema_decay"),
    ]:
        assert words in sadcl("train", "--resume", *more, code=2).stderr
