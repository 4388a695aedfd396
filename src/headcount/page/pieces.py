"""The text of each token, such that the joined texts are the whole text."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from headcount.data.tokenizer import special_names
from headcount.escape import printable

UNFINISHED = "\ufffd"  # how a tokenizer decodes the first bytes of a character
MAX_BYTES = 4  # of a character in UTF-8


def pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return the printable text of each token within its sequence.

    A character that several tokens encode is the text of the last one; the others have an empty
    text. Start and end tokens are shown as ``(start)`` and ``(end)``.
    """
    names = special_names(tokenizer)
    texts: list[str] = []
    before: list[int] = []
    pending: list[int] = []
    for index, token in enumerate(ids):
        # A special token begins a new text.
        if token in names:
            texts.append(names[token])
            before = []
            pending = []
            continue

        # A token may hold only the first bytes of a character; wait for the tokens with the rest.
        pending.append(token)
        text = tokenizer.decode([*before, *pending])
        is_last = index + 1 == len(ids) or ids[index + 1] in names
        if text.endswith(UNFINISHED) and not is_last and len(pending) < MAX_BYTES:
            texts.append("")
            continue

        # Decoding depends on the token before (some tokenizers put blanks between words), so each
        # piece is decoded together with the last complete one, whose text is then cut off.
        texts.append(printable(text[len(tokenizer.decode(before)) :]))
        before = pending
        pending = []
    return texts
