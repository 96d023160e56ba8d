"""What a model's card says of finding wrong records."""

from __future__ import annotations

from bincount.core.variance_evaluation import KINDS
from bincount.steps.card_format import Block, Heading, Table


def variance_blocks(evaluation: dict) -> list[Block]:
    """The blocks on wrong records, from what `variance_evaluation.judge_variance` gave."""
    found = evaluation["variance"]
    if not found["kinds"]:
        return []
    return [
        Heading(2, "Finding wrong records"),
        f"Errors planted in {found['error_rate']:.0%} of the test bins' records; each bin with every error at once. "
        "Image-blind ranks by the record alone and is told how often each is wrong: without photos none is better.",
        Table(
            ("errors", "bins", "AUROC", "95 % interval", "image-blind", "difference, 95 %", "AUPRC", "of random"),
            tuple(
                (
                    KINDS[kind],
                    str(row["bins"]),
                    f"{row['model']['auroc']:.3f}",
                    " to ".join(f"{end:.3f}" for end in row["intervals"]["auroc"]),
                    f"{row['image_blind']['auroc']:.3f}",
                    " to ".join(f"{end:+.3f}" for end in row["intervals"]["difference"]),
                    f"{row['model']['auprc']:.3f}",
                    f"{row['random']['auprc']:.3f}",
                )
                for kind, row in found["kinds"].items()
            ),
        ),
        Table(
            ("errors", "bins counted", "precision", "recall", "lift", "image-blind lift", "false alarms per 1,000"),
            tuple(
                (
                    KINDS[kind],
                    f"{float(share):.0%}",
                    f"{at['precision']:.1%}",
                    f"{at['recall']:.1%}",
                    f"{at['lift']:.1f}",
                    f"{row['image_blind']['at'][share]['lift']:.1f}",
                    f"{at['false_alarms']:.0f}",
                )
                for kind, row in found["kinds"].items()
                for share, at in row["model"]["at"].items()
            ),
        ),
        Table(
            ("errors", "cost a bin", "image-blind", "random or all"),
            tuple(
                (
                    KINDS[kind],
                    *(f"{row[ranking]['expected_cost']:.3f}" for ranking in ("model", "image_blind", "random")),
                )
                for kind, row in found["kinds"].items()
            ),
        ),
        f"In costs of counting a bin, where a missed error costs {found['miss_cost']:g} of them.",
    ]
