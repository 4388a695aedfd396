"""How many pairs per second are scored, beside ``rouge-score`` in the same run: ``python
benchmarks/rouge.py``.

Pairs of 50 words of English (Python's own help texts), four ROUGE types, precision, recall and F1.
The figures are held against each other as well.
"""

import random
import time
from pydoc_data.topics import topics

from rouge_score.rouge_scorer import RougeScorer

from headcount.evaluation.parallel import CHUNK, map_examples
from headcount.evaluation.rouge import F1, ROUGE_TYPES, Rouge

WORDS = 50
FEW, MANY = 1500, 15 * CHUNK  # pairs for the package, and for all cores


def make_pairs(number: int) -> tuple[list[str], list[str]]:
    """Return summaries, and references that have about half of their words, in their order."""
    words = " ".join(topics.values()).split()
    draw = random.Random(0)
    summaries, references = [], []
    for _ in range(number):
        begin = draw.randrange(len(words) - WORDS)
        text = words[begin : begin + WORDS]
        summaries.append(" ".join(text))
        references.append(
            " ".join(word if draw.random() < 0.5 else draw.choice(words) for word in text)
        )
    return summaries, references


def main() -> None:
    """Print a line for each way of scoring."""
    summaries, references = make_pairs(MANY)
    package, rouge = (
        RougeScorer(ROUGE_TYPES, use_stemmer=True),
        Rouge(rule="mean", tokenizer="rouge-score", sentences="newline"),
    )
    slow = fast = 0.0
    for begin in range(0, FEW, FEW // 5):  # in turns, so that both meet the same machine
        part = slice(begin, begin + FEW // 5)
        started = time.perf_counter()
        expected = [
            package.score(r, s) for s, r in zip(summaries[part], references[part], strict=True)
        ]
        between = time.perf_counter()
        found = [
            rouge.score(s, [r]) for s, r in zip(summaries[part], references[part], strict=True)
        ]
        slow, fast = slow + between - started, fast + time.perf_counter() - between
        assert found == [[scores[kind][F1] for kind in ROUGE_TYPES] for scores in expected]
    started = time.perf_counter()
    map_examples(rouge.score, summaries, [[reference] for reference in references])
    seconds = {"rouge-score": slow / FEW, "headcount, one process": fast / FEW}
    seconds["headcount, all cores"] = (time.perf_counter() - started) / MANY
    for name, each in seconds.items():
        print(f"{name:24}{1 / each:10,.0f} pairs/s{seconds['rouge-score'] / each:8.1f} x")


if __name__ == "__main__":
    main()
