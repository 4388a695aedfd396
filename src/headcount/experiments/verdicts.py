"""The verdict of a comparison, and how it is shown: a word, a symbol and a colour, the same in
tables and figure.

The colour-blind tell the colours apart (Okabe and Ito 2008), and the symbols differ, too.
"""

from typing import Literal

Verdict = Literal["better", "worse", "equal within the margin", "undecided"]
WORDS: dict[Verdict, str] = {
    "better": "better",
    "worse": "worse",
    "equal within the margin": "equal",
    "undecided": "undecided",
}
SYMBOLS: dict[Verdict, str] = {
    "better": "▲",
    "worse": "▼",
    "equal within the margin": "=",
    "undecided": "?",
}
COLORS: dict[Verdict, str] = {
    "better": "#0072B2",
    "worse": "#D55E00",
    "equal within the margin": "#009E73",
    "undecided": "#555555",
}
CAVEAT_MARK = "†"  # beside a verdict from fewer than three seeds
