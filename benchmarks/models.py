"""How well do the networks find fraud, on data that nobody here made, beside LightGBM and what others published?

Trains every model of each example's configuration, by the protocol of its data set, and measures it once. LightGBM's
parameters are searched on the validation rows of the first fold, for as long as the example says; the networks keep
their defaults.

    python -m benchmarks.models [--only handbook] [--data FOLDER] [--search SECONDS] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import msgspec

from benchmarks.table import Progress, show
from tollgate.cli.fitting import Options, Run, run_training
from tollgate.cli.wiring import features_of, open_labelled
from tollgate.config import Config, read_config
from tollgate.evaluate import differences, mean_over
from tollgate.train import title_of

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
FILES = {
    "handbook": "handbook/transactions.parquet",
    "sparkov": "sparkov/transactions.parquet",
    "ecommerce": "ecommerce/purchases.parquet",
}
LIGHTGBM = title_of("lightgbm")

# Published, or measured by others on the same splits: AUC ROC, AP, card precision@100. The handbook's are of its
# chapters 5 to 7, means of the same four weeks, trained on 7 days.
PUBLISHED: dict[str, tuple[tuple[str, float, float, float | None], ...]] = {
    "handbook": (
        ("handbook: XGBoost", 0.869, 0.687, 0.303),
        ("handbook: random forest", 0.870, 0.678, 0.299),
        ("handbook: balanced bagging", 0.879, 0.680, 0.305),
        ("handbook: feed-forward network", 0.876, 0.675, 0.303),
        ("handbook: LSTM", 0.876, 0.665, 0.297),
        ("handbook: LSTM with attention", 0.874, 0.667, 0.295),
        ("handbook: CNN", 0.872, 0.599, 0.288),
    ),
    "sparkov": (
        ("XGBoost, raw columns", 0.9967, 0.884, None),
        ("XGBoost, velocity features", 0.9995, 0.9745, None),
    ),
    "ecommerce": (),
}


def configured(name: str, folder: Path, *, quick: bool) -> Config:
    """Return an example's configuration that keeps its bundles in `folder`; a quick one says only whether it runs."""
    config = read_config(ROOT / "examples" / name / "tollgate.toml")
    train = msgspec.structs.replace(config.train, max_epochs=1, refit=False) if quick else config.train
    return msgspec.structs.replace(config, bundles=str(folder / name), train=train)


def measured(name: str, data: Path, config: Config, search_s: float | None) -> Run:
    """Train and measure all models of one example."""
    file, _ = open_labelled(data / FILES[name], config)
    run = run_training(file, features_of(config), config, Options(trees_s=search_s))
    assert run is not None
    return run


def report(name: str, run: Run, config: Config) -> dict[str, float]:
    """Print the table of one data set, and return its figures."""
    evaluations = run.evaluations
    own = evaluations[0].model
    against = differences(evaluations, config.evaluate)
    rows = []
    for model in evaluations[0].measures:
        gap = against.get(model)
        rows.append(
            [
                model if model != own else f"{model} (default)",
                *(
                    f"{mean_over(evaluations, model, measure):.4f}"
                    for measure in ("auc_roc", "average_precision", "card_precision", "recall_at_fpr")
                ),
                f"{mean_over(evaluations, model, 'calibration_error'):.4f}",
                "" if gap is None else f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]",
                f"{run.seconds[model]:.0f}",
            ]
        )
    for title, auc, ap, cp in PUBLISHED[name]:
        rows.append([title, f"{auc:.4f}", f"{ap:.4f}", "" if cp is None else f"{cp:.4f}", "", "", "", ""])
    tested = sum(len(one.test) for one in evaluations)
    show(
        f"{name}: {tested:,} test payments in {len(evaluations)} fold(s), trained on up to {run.history.rows:,}",
        ["", "AUC ROC", "AP", "CP@100", "recall at 1% FPR", "ECE", f"AP of {own} over it, 95%", "s"],
        rows,
    )
    return {
        "auc": mean_over(evaluations, own, "auc_roc"),
        "ap": mean_over(evaluations, own, "average_precision"),
        "cp100": mean_over(evaluations, own, "card_precision"),
        "lightgbm_ap": mean_over(evaluations, LIGHTGBM, "average_precision"),
        "ap_diff_ci_low": against[LIGHTGBM].low,
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FILES, action="append", help="a data set; all by default")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    parser.add_argument("--search", type=float, help="seconds for LightGBM's parameters, not what the example says")
    parser.add_argument("--out", type=Path, help="folder to keep the bundles and reports in")
    parser.add_argument("--quick", action="store_true", help="one epoch: whether it runs, not how well")
    given = parser.parse_args()
    say = Progress()
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in given.only or FILES:
            if not (given.data / FILES[name]).is_file():
                say(f"no {name} data in {given.data}: left out; examples/{name}/README.md says where to get it")
                continue
            say(f"training on the {name} data")
            config = configured(name, given.out or Path(temporary), quick=given.quick)
            figures[name] = report(name, measured(name, given.data, config, given.search), config)
    print(json.dumps({"datasets": {name: {k: round(v, 5) for k, v in one.items()} for name, one in figures.items()}}))


if __name__ == "__main__":
    main()
