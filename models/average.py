"""The mean of several checkpoints of one run, as a checkpoint that export.py, eval.py and check.py take.

  average.py OUT.pt CHECKPOINT.pt CHECKPOINT.pt ...

The ends of cycles of the learning rate lie around a common valley: what each of them knows the others do not, such as
two hops of variables in long texts, their mean knows better than any one of them. Nothing is trained: training goes on
from the last checkpoint, not from the mean.
"""
import sys

import torch


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    all_of = [torch.load(path, map_location="cpu") for path in sys.argv[2:]]
    if any(s["config"] != all_of[0]["config"] for s in all_of):
        sys.exit("average.py: the checkpoints are of different models")
    masters = [s["opt"]["master"] for s in all_of]
    mean = {name: sum(m[name].float() for m in masters) / len(masters) for name in masters[0]}
    last = all_of[-1]
    torch.save({"opt": {"master": mean}, "tokens": last["tokens"], "config": last["config"]}, sys.argv[1])


if __name__ == "__main__":
    main()
