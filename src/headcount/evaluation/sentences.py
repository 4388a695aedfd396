"""Sentence splitting by rules, for any script and without a model that has to be downloaded.

Two callers have different needs. Extractive baselines take sentences of a document whose lines may
be wrapped anywhere, so only a blank line ends a sentence there. ROUGE-Lsum follows the published
evaluations, in which every line break ends a sentence and abbreviations do not.
"""

from collections.abc import Iterator

import regex

# Of the rules of ``split_lines``, for the signature of scores. A change of any of its results is a
# new version. Version 1, which had two sets of rules, was not in signatures; version 2 did not end
# a sentence before # @ • and signs of currency.
SPLITTER_VERSION = 3

# Signs that end a sentence whether or not a blank follows: 。！？ । ॥ ؟ ۔ ። ។ ။ and others.
_SIGN = r"[\p{Sentence_Break=STerm}\u037E\u0F0D\u0F0E--[!?]]"
_CLOSER = r"""["'”’»›)\]」』】》〉）]"""
# A possible end: signs, closing marks, blanks. The Greek question mark looks like a semicolon, and
# is often typed as one. A full-width stop may also be a decimal point. Thai and Lao have no sign
# that ends a sentence, but a blank. All repetitions are possessive, so that the search takes
# linear time.
_END = regex.compile(
    rf"(?P<stop>(?:{_SIGN}|[.!?…]|．(?!\p{{N}})|(?<=\p{{Greek}});)++)"
    rf"(?P<closers>{_CLOSER}*+)(?P<blanks>\s*+)"
    r"|(?<=[\p{Thai}\p{Lao}])\s++(?=[\p{Thai}\p{Lao}])",
    regex.V1,
)
_HAS_SIGN = regex.compile(rf"{_SIGN}|．", regex.V1)
_CAPITAL = regex.compile(r"[\p{Lu}\p{Lt}]")
# The first character of a sentence after . ! ? …: a capital, a letter of a script without
# capitals, a number, an opening mark, a bullet, or a sign before a word: "#Person1#", "$5".
_BEGIN = regex.compile(
    r"""[\p{Lu}\p{Lt}\p{Lo}\p{Georgian}\p{N}•"'`*(\[«‹„“‘¿¡「『《（]|[#@\p{Sc}](?=[\p{L}\p{N}])"""
)
_LOWER_CASE = regex.compile(r"\p{Ll}")
_BLANK_LINE = regex.compile(r"\n\s*\n")

LONGEST_ABBREVIATION = 30  # characters
# English abbreviations whose full stop does not end a sentence.
_TITLE = regex.compile(
    r"(?:^|[^\p{L}.])(?:mr|mrs|ms|mx|dr|prof|st|sen|rep|gov|gen|col|lt|capt|sgt|rev|hon|mt|vs|cf"
    r"|e\.g|i\.e|viz|approx)\.$",
    regex.IGNORECASE,
)
_BEFORE_NUMBER = regex.compile(
    r"(?:^|[^\p{L}.])(?:no|nos|fig|figs|eq|eqs|sec|ch|vol|p|pp|art|al|ca)\.$", regex.IGNORECASE
)
_INITIAL = regex.compile(r"(?:^|[^\p{L}.])[\p{Lu}--I]\.$", regex.V1)
_ACRONYM = regex.compile(r"(?:^|[^\p{L}.])(?:\p{Lu}\.){2,}$")
# Words that rarely follow an acronym within a sentence.
_COMMON_BEGIN = frozenset({
    "a", "after", "all", "also", "an", "and", "as", "at", "but", "by", "for", "from", "he", "her",
    "his", "how", "however", "i", "if", "in", "it", "its", "many", "my", "no", "on", "one", "our",
    "she", "so", "some", "that", "the", "their", "then", "there", "these", "they", "this", "those",
    "to", "we", "what", "when", "where", "while", "who", "why", "with", "you", "your",
})  # fmt: skip
_WORD = regex.compile(r"\p{L}+")


def split_paragraphs(text: str) -> list[str]:
    """Split a text into sentences at blank lines and at the signs that end a sentence.

    A full stop, an exclamation or a question mark ends a sentence if it is followed by a blank and
    by a character that can begin a sentence: a capital, a letter of a script without capitals, a
    number, an opening mark, a bullet, or a sign as in #Person1# and $5; in a text without capitals
    any letter.
    """
    has_capitals = _CAPITAL.search(text) is not None
    sentences = []
    for paragraph in _BLANK_LINE.split(text):
        begin = 0
        for end, next_begin in _find_ends(paragraph, has_capitals, closers=False):
            sentences.append(paragraph[begin:end])
            begin = next_begin
        sentences.append(paragraph[begin:])
    return sentences


def split_lines(text: str) -> list[str]:
    """Split a text into the sentences of ROUGE-Lsum: at each line break, and within a line where a
    sentence ends.

    Closing quotation marks and brackets belong to the sentence before them. The full stops of
    English titles, initials, acronyms and other abbreviations ("Dr. Who", "J. Smith", "U.S. Army",
    "Fig. 3") do not end a sentence.
    """
    has_capitals = _CAPITAL.search(text) is not None
    sentences = []
    for line in text.split("\n"):
        begin = 0
        for end, next_begin in _find_ends(line, has_capitals, closers=True):
            # Abbreviations are short, so only the characters next to the full stop are searched.
            before = line[max(begin, end - LONGEST_ABBREVIATION) : end]
            if not _is_abbreviation(before, line[next_begin : next_begin + 20]):
                sentences.append(line[begin:end])
                begin = next_begin
        sentences.append(line[begin:])
    return sentences


def _find_ends(text: str, has_capitals: bool, *, closers: bool) -> Iterator[tuple[int, int]]:
    """Yield for each end of a sentence its position and that of the next sentence.

    Args:
        text: a text without line breaks that end sentences.
        has_capitals: whether sentences begin with capitals, if the script has them.
        closers: whether closing marks may be between a full stop and the blank after it.
    """
    for match in _END.finditer(text):
        if match.end() == len(text):
            return

        # A blank of Thai, or a sign that always ends a sentence.
        stop = match["stop"]
        if stop is None or _HAS_SIGN.search(stop):
            end = match.end("closers") if stop else match.start()
            yield end, match.end()

        # A full stop, whose meaning depends on what follows.
        elif match["blanks"] and (closers or not match["closers"]):
            begins = _BEGIN.match(text, match.end()) is not None
            if not begins and not has_capitals:
                begins = _LOWER_CASE.match(text, match.end()) is not None
            if begins:
                yield match.end("closers"), match.end()


def _is_abbreviation(before: str, after: str) -> bool:
    """Return whether the full stop at the end of ``before`` belongs to an abbreviation."""
    if not before.endswith("."):
        return False
    if _TITLE.search(before) or _INITIAL.search(before):
        return True
    if _BEFORE_NUMBER.search(before):
        return after[:1].isdigit()

    # An acronym may also end a sentence; then a common word usually follows.
    word = _WORD.match(after)
    return (
        bool(_ACRONYM.search(before)) and word is not None and word[0].lower() not in _COMMON_BEGIN
    )
