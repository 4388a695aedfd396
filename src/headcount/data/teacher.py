"""Summaries that other models wrote of the training documents.

Sequence-level distillation (Kim and Rush 2016, section 3.2), and data diversification if the
references are used as well (Nguyen et al. 2020).
"""

from collections.abc import Collection
from dataclasses import dataclass

from tokenizers import Tokenizer

from headcount.config.paths import user_path
from headcount.data import readers
from headcount.data.files import digest
from headcount.data.pairs import Pairs, clean_text, id_of, unique_ids
from headcount.data.tokens import Ids, encode, split_by_text
from headcount.errors import ConfigError

LEGAL = "legal: what headcount evaluate or summarize --out wrote for the training split"


@dataclass(frozen=True, kw_only=True)
class TeacherSummaries:
    """A summary of each training document by other models; the reference where there is none.

    Attributes:
        texts: one for each example.
        ids: their token ids, uncut.
        number: how many are by other models.
        number_held_out: how many others the file has, of examples that are held out.
        sha256: of the file that they were read from.
    """

    texts: list[str]
    ids: list[Ids]
    number: int
    number_held_out: int
    sha256: str


def read_teacher_summaries(
    path: str, pairs: Pairs, tokenizer: Tokenizer, *, held_out: Collection[str] = ()
) -> TeacherSummaries:
    """Read what ``headcount evaluate`` or ``headcount summarize --out`` wrote.

    A row belongs to the example with its id; repeated ids are numbered as those of the examples
    are. If it has the document, this must be the example's. If any row has none, there must be a
    row for each example: ids that number rows may be those of other rows.

    Args:
        path: the ``data.teacher_summaries`` of a config.
        pairs: the training split.
        tokenizer: of the run.
        held_out: ids of the examples of the same file that validation and test have; what was
            written of them is skipped.

    Raises:
        ConfigError: the file cannot be read, or is not about this training split.
    """
    file = user_path("data.teacher_summaries", path)
    if not file.is_file():
        raise ConfigError(f"data.teacher_summaries={path}: no such file; {LEGAL}")
    example_of = {identifier: example for example, identifier in enumerate(pairs.ids)}

    rows = list(readers.read([file], ["id", "summary", "document"]))
    ids = unique_ids([id_of(row) for _, row in rows])

    # Find the example of each row.
    summary_of: dict[int, str] = {}
    number_held_out = 0
    has_documents = True
    for identifier, (place, row) in zip(ids, rows, strict=True):
        if identifier in held_out:
            number_held_out += 1
            continue
        example = example_of.get(identifier)
        if example is None:
            raise ConfigError(
                f"data.teacher_summaries={path}: {place}: the training split has no example with "
                f"the id {identifier}; {LEGAL}"
            )
        if "document" not in row:
            has_documents = False
        elif row["document"] != pairs.documents[example]:
            raise ConfigError(
                f"data.teacher_summaries={path}: {place}: its document is not that of the "
                f"training example {identifier}; {LEGAL}"
            )
        summary_of[example] = clean_text(row.get("summary"), "summary")

    if not has_documents and len(summary_of) < len(pairs):
        raise ConfigError(
            f"data.teacher_summaries={path}: {len(summary_of):,} summaries without documents for "
            f"{len(pairs):,} training examples; {LEGAL}"
        )

    # An empty summary teaches nothing.
    texts = []
    number = 0
    for example, references in enumerate(pairs.references):
        summary = summary_of.get(example, "")
        number += bool(summary)
        texts.append(summary or references[0])
    if not number:
        raise ConfigError(f"data.teacher_summaries={path}: it has no summary; {LEGAL}")
    return TeacherSummaries(
        texts=texts,
        ids=split_by_text(encode(tokenizer, texts)),
        number=number,
        number_held_out=number_held_out,
        sha256=digest(file),
    )
