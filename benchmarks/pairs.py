"""The change head by block-wise cross-validation: what the photo before adds to the count before.

    python -m benchmarks.pairs --features KEY [--folds 5]

KEY is what `bincount prepare` printed, in the workspace that BINCOUNT_WORKSPACE names. The pairs of the train and
validation parts are split by blocks of 20 ids; each fold is judged by a head that was learned from the others. The
test part is not read.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from bincount.dataset.split import LEARNED_PARTS
from bincount.learn.backbone import fine_width, load_backbone
from bincount.learn.feature_cache import read_features
from bincount.learn.judges import PairExamples, join_pairs, read_pairs
from bincount.mismatch.change import ChangeHead
from bincount.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, metavar="KEY")
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    cached = read_features(Settings.from_env(), options.features)
    counts, width = cached.manifest.counts, fine_width(load_backbone(cached.backbone_path))

    def pairs_of_part(part: str) -> PairExamples:
        features = cached.examples(part).features
        return read_pairs(cached.manifest.part(part), lambda rows: features[rows].mean(axis=1, dtype="float32"), counts)

    pairs = join_pairs(*map(pairs_of_part, LEARNED_PARTS))
    n = len(pairs.blocks)
    judges = {name: np.zeros((n, len(counts))) for name in ("both photos", "no photo")}
    score = np.zeros(n)
    for learned, held_out in GroupKFold(options.folds).split(pairs.before, groups=pairs.blocks):
        blocks = [pairs.blocks[row] for row in learned]
        earlier, later = pairs.earlier[learned], pairs.later[learned]
        head = ChangeHead.fit(earlier, later, pairs.before[learned], pairs.after[learned], blocks, counts, width=width)
        if head is None:
            raise SystemExit(f"pairs: needs more pairs in {options.folds - 1} folds, got {len(learned)}.")
        difference = pairs.later[held_out] - pairs.earlier[held_out]
        judges["both photos"][held_out] = head.counts_after(difference, pairs.before[held_out])
        judges["no photo"][held_out] = head.transitions[pairs.before[held_out]]
        score[held_out] = head.score(difference)
    moved = pairs.after != pairs.before
    print(f"{n} pairs, {len(set(pairs.blocks))} blocks")
    print(f"direction AUROC {roc_auc_score((pairs.after > pairs.before)[moved], score[moved]):.3f}")
    for name, distribution in judges.items():
        off = abs(distribution.argmax(axis=1) - pairs.after)
        nll = -np.log(distribution[np.arange(n), pairs.after]).mean()
        print(f"{name}: exact {(off == 0).mean():.1%}, within one {(off <= 1).mean():.1%}, NLL {nll:.3f}")


if __name__ == "__main__":
    main()
