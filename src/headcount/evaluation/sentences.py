"""Where sentences end, in any script, without a model that has to be downloaded.

Two callers have different needs. Extractive baselines take sentences of a document whose lines may
be wrapped anywhere, so only a blank line ends a sentence there. ROUGE-Lsum follows the published
recipe, in which a line break always ends a sentence, and abbreviations do not.
"""

from collections.abc import Iterator

import regex

# Signs that end a sentence whether or not a blank follows: 。！？ । ॥ ؟ ۔ ። ។ ။ and others.
_SIGN = r"[\p{Sentence_Break=STerm}\u037E\u0F0D\u0F0E--[!?]]"
_CLOSER = r"""["'”’»›)\]」』】》〉）]"""
# A possible end: signs, closing marks, blanks. Greek asks with a semicolon. A full-width stop may
# also be a decimal point. Thai and Lao have no sign that ends a sentence, but put a blank there.
# All repetitions are possessive, so that the
# search takes linear time.
_END = regex.compile(
    rf"(?P<stop>(?:{_SIGN}|[.!?…]|．(?!\p{{N}})|(?<=\p{{Greek}});)++)"
    rf"(?P<closers>{_CLOSER}*+)(?P<blanks>\s*+)"
    r"|(?<=[\p{Thai}\p{Lao}])\s++(?=[\p{Thai}\p{Lao}])",
    regex.V1,
)
_HAS_SIGN = regex.compile(rf"{_SIGN}|．", regex.V1)
_CAPITAL = regex.compile(r"[\p{Lu}\p{Lt}]")
# What a sentence begins with after . ! ? …: a capital, a letter of a script without capitals, a
# number, or an opening mark.
_BEGIN = regex.compile(r"""[\p{Lu}\p{Lt}\p{Lo}\p{Georgian}\p{N}"'`*(\[«‹„“‘¿¡「『《（]""")
_LOWER_CASE = regex.compile(r"\p{Ll}")
_BLANK_LINE = regex.compile(r"\n\s*\n")

LONGEST_ABBREVIATION = 30  # characters
# English abbreviations, before a full stop that does not end a sentence.
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

    A full stop, an exclamation or a question mark ends one if a blank and something that can begin
    a sentence follow: a capital, a letter of a script that has none, a number or an opening mark;
    in a text without capitals any letter.
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
    """Split a text into sentences as ROUGE-Lsum counts them: at each line break, and within a line
    where a sentence ends.

    Closing quotation marks and brackets belong to the sentence before them. English titles,
    initials, acronyms and the like ("Dr. Who", "J. Smith", "U.S. Army", "Fig. 3") end none.
    """
    has_capitals = _CAPITAL.search(text) is not None
    sentences = []
    for line in text.split("\n"):
        begin = 0
        for end, next_begin in _find_ends(line, has_capitals, closers=True):
            # Abbreviations are short: what is before them need not be read.
            before = line[max(begin, end - LONGEST_ABBREVIATION) : end]
            if not _is_abbreviation(before, line[next_begin : next_begin + 20]):
                sentences.append(line[begin:end])
                begin = next_begin
        sentences.append(line[begin:])
    return sentences


def _find_ends(text: str, has_capitals: bool, *, closers: bool) -> Iterator[tuple[int, int]]:
    """Yield where a sentence ends and where the next one begins.

    Args:
        text: without the line breaks that end sentences.
        has_capitals: whether sentences begin with capitals, if the script has them.
        closers: whether a closing mark may follow a full stop.
    """
    for match in _END.finditer(text):
        if match.end() == len(text):
            return
        stop = match["stop"]
        if stop is None or _HAS_SIGN.search(stop):
            end = match.end("closers") if stop else match.start()
            yield end, match.end()
        elif match["blanks"] and (closers or not match["closers"]):
            begins = _BEGIN.match(text, match.end()) is not None
            if not begins and not has_capitals:
                begins = _LOWER_CASE.match(text, match.end()) is not None
            if begins:
                yield match.end("closers"), match.end()


def _is_abbreviation(before: str, after: str) -> bool:
    """Return whether a full stop belongs to an abbreviation."""
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
