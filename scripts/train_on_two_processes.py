"""Two processes with half a batch each learn what one process learns from the whole: the losses, side by side.

python scripts/train_on_two_processes.py

It starts itself by torchrun with one gloo process and with two, on a small random BERT, and compares the curves; they
must agree to 1e-5. On a cluster the same launch has `--nnodes`, and a Ray job starts it on each node.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TEXT = "how many people live in berlin the city has three million and a wall of art new york is far away who won"
WORDS = TEXT.split()
LISTS, STEPS = 8, 6


def main() -> None:
    """Train with one process and with two, and compare."""
    if "LOCAL_RANK" in os.environ:
        train(Path(sys.argv[1]), Path(sys.argv[2]), LISTS // int(os.environ["WORLD_SIZE"]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_body(folder / "body")
        curves = {count: launched(folder, count) for count in (1, 2)}
    for step, losses in enumerate(zip(*curves.values(), strict=True), start=1):
        print(f"step {step}: {losses[0]:.6f} with one process, {losses[1]:.6f} with two")
    gap = max(abs(one - two) for one, two in zip(*curves.values(), strict=True))
    print(f"largest difference {gap:.1e}")
    sys.exit(gap > 1e-5)


def launched(folder: Path, count: int) -> list[float]:
    """The losses of a run by so many processes."""
    output = folder / f"by-{count}"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), __file__]
    subprocess.run([sys.executable, *command, str(folder / "body"), str(output)], check=True)
    log = json.loads((output / "training.json").read_text(encoding="utf-8"))["log"]
    return [entry["loss"] for entry in log if "loss" in entry]


def train(body: Path, output: Path, lists: int) -> None:
    """In each process: its part of every batch. All lists are one batch, so that their order says nothing."""
    from training.examples import Example
    from training.objective import Objective
    from training.recipe import Recipe, Schedule, StudentTable
    from training.run import run_training

    examples = [
        Example(
            f"{WORDS[index]} {WORDS[-1 - index]}",
            tuple(" ".join(WORDS[index + place : index + 2 * place + 3]) + f" {place}" for place in range(4)),
            relevance=(1, 0, 0, 0),
        )
        for index in range(LISTS)
    ]
    schedule = Schedule(max_steps=STEPS, lists=lists, learning_rate=1e-3, warmup=0, log_every=1, save_every=100)
    run_training(
        Recipe(StudentTable("cross-encoder", str(body)), Objective("group-ce"), schedule), output, examples=examples
    )


def write_body(folder: Path) -> None:
    """A small BERT without dropout, so that both ways compute the same."""
    import transformers

    transformers.set_seed(0)
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        max_position_embeddings=64,
        num_labels=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=vocabulary, model_max_length=64).save_pretrained(folder)


if __name__ == "__main__":
    main()
