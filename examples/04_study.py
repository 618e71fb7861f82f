"""A study from Python: two schedules, three seeds each, compared; the runs land in the folder that is named.

python examples/04_study.py
"""

import sys
from pathlib import Path

from lrlab import compare_runs, find_runs, write_report
from lrlab.compare import sentence
from lrlab.config import read_study
from lrlab.studies import Ended, run_study

STUDY = """
name = "two-schedules"
seeds = [0, 1, 2]

[base]
batch_size = 32
epochs = 2
model.width = 4
engine.threads = 1

[arms.constant]
schedule.name = "constant"

[arms.cosine]
schedule.name = "cosine"
"""


def main(root: Path) -> None:
    """Run what is missing of the study, and say what it shows; safe to repeat."""
    root.mkdir(parents=True, exist_ok=True)
    file = root / "two-schedules.toml"
    file.write_text(STUDY)
    plan = read_study(file)
    for member, event in run_study(plan, file, root=root):
        if isinstance(event, Ended):
            print(f"{member.arm}, seed {member.seed}: {event.outcome}")

    comparison = compare_runs(find_runs(root / plan.name), control="constant")
    for arm in comparison.arms:
        print(f"{arm.name}: " + ", ".join(f"{value:.2%}" for value in arm.values.values()))
    for difference in comparison.differences:
        print(sentence(difference, comparison))
    print(f"page: {write_report(root / plan.name)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs"))
