"""Training objectives: examples made from the documents of the training split alone.

Self-pretraining on the data set at hand takes no other text (Krishna et al. 2022). Each example
is made when it is used, from its token ids and a random generator that seed, epoch and example
decide, so nothing is stored and a resumed run makes the same.

Where something was left out of a document there is a mark. It is the start token, which occurs in
no other document: the vocabulary and the shapes of the model stay the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from headcount.config.sections.data import Objective
from headcount.data.arrow_table import CHUNK, read_table, write_table
from headcount.data.batches import Batch, EncodedPairs, Layout
from headcount.data.bpe_dropout import BpeDropout
from headcount.data.cache import cached
from headcount.data.pairs import Pairs
from headcount.data.sampler import Examples
from headcount.data.teacher import TeacherSummaries
from headcount.data.tokenizer import encode_texts
from headcount.data.tokens import Ids, TokenColumn, fingerprint

CACHE_VERSION = 2  # raise it when the positions of sentences that the code below finds change
SENTENCES_SCHEMA = pa.schema({"sentences": pa.list_(pa.int32())})

REMOVED_SHARE = 0.3  # of sentences (Zhang et al. 2020), or of tokens (Lewis et al. 2020)
NOT_NEEDED: Ids = np.array([], np.int32)  # sentences of an example whose objective needs none
TEACHER = 1  # in a seed: another stream of random numbers than what is left out
MEAN_SPAN = 3  # tokens of a span (Lewis et al. 2020, section 2.2)

SplitUnits = Callable[[str], list[str]]  # the sentences or lines of a text, as they are in it


# One example


def leave_out_sentences(
    document: Ids, sentences: Ids, layout: Layout, random: np.random.Generator
) -> tuple[Ids, Ids]:
    """Gap sentences: some sentences are left out of a document, and are its summary.

    Pegasus (Zhang et al. 2020, section 3.1) with its random choice, which is another one in each
    epoch. Three tenths of the sentences are left out, at least one, as far as the summary has
    room; never one that is cut from the document or longer than a summary. A document that has no
    such sentence, or no other, is infilled instead.

    Args:
        document: its uncut token ids.
        sentences: the first token of each sentence.
        layout: how long documents and summaries may be.
        random: what chooses.

    Returns:
        The token ids of the document, with a mark for each sentence, and of the summary.
    """
    bounds = np.append(sentences, len(document))
    candidates = _find_candidates(bounds, layout)
    if not len(candidates):
        return infill(document, layout, random)

    # Choose at random. A sentence that the summary has no room for is passed over.
    room = layout.max_summary_tokens - 2
    spans: list[tuple[int, int]] = []
    for sentence in random.permutation(candidates).tolist():
        begin, end = bounds[sentence : sentence + 2].tolist()
        if end - begin <= room and len(spans) < _count_gaps(sentences):
            spans.append((begin, end))
            room -= end - begin

    kept, removed = _cut_spans(document, sorted(spans), layout.start_id)
    return kept, np.concatenate(removed)


def _find_candidates(bounds: Ids, layout: Layout) -> NDArray[np.int64]:
    """Return which sentences may be left out.

    Args:
        bounds: the first token of each sentence, and the number of tokens of the document.
        layout: how long documents and summaries may be.
    """
    if len(bounds) < 3:  # one sentence
        return np.array([], np.int64)
    is_visible = bounds[1:] < layout.max_document_tokens
    fits = np.diff(bounds) <= layout.max_summary_tokens - 2
    return np.flatnonzero(is_visible & fits)


def _count_gaps(sentences: Ids) -> int:
    """Return how many sentences are left out, as far as there is room."""
    return max(1, round(REMOVED_SHARE * len(sentences)))


def infill(document: Ids, layout: Layout, random: np.random.Generator) -> tuple[Ids, Ids]:
    """Text infilling: spans of tokens are left out of a document, a mark for each, and the summary
    is the spans.

    The document is that of BART (Lewis et al. 2020, section 2.2): three tenths of its tokens are
    left out, in spans of three tokens on average. BART then writes the whole document. A summary
    is shorter than that, so here it is the spans alone, each after a mark, as in T5 (Raffel et al.
    2020, section 3.1.4). As there, the number of tokens and of spans depends on the length of the
    document alone.

    Args:
        document: its uncut token ids; it is cut.
        layout: how long documents and summaries may be.
        random: what chooses.

    Returns:
        The token ids of the document and of the summary.
    """
    document = document[: layout.max_document_tokens - 1]
    removed_tokens, spans = _count_spans(len(document), layout)
    if not spans:
        return document, document[:0]

    # Cut the removed tokens into spans, and choose where among the kept tokens each is.
    cuts = np.sort(random.choice(removed_tokens - 1, spans - 1, replace=False)) + 1
    lengths = np.diff(cuts, prepend=0, append=removed_tokens)
    kept_tokens = len(document) - removed_tokens
    places = np.sort(random.choice(kept_tokens + 1, spans, replace=False))
    begins = places + np.cumsum(lengths) - lengths

    ends = begins + lengths
    kept, removed = _cut_spans(document, list(zip(begins, ends, strict=True)), layout.start_id)
    mark = np.array([layout.start_id], np.int32)
    summary: list[Ids] = []
    for span in removed:
        summary += [mark, span]
    return kept, np.concatenate(summary)


def _count_spans(tokens: int, layout: Layout) -> tuple[int, int]:
    """Return how many tokens of a document are left out, and in how many spans."""
    removed = max(1, round(REMOVED_SHARE * tokens))
    # Spans and marks must fit into the summary.
    room = layout.max_summary_tokens - 2
    removed = min(removed, tokens, room * MEAN_SPAN // (MEAN_SPAN + 1))
    spans = -(-removed // MEAN_SPAN)
    return removed, min(spans, tokens - removed + 1)


def _cut_spans(
    document: Ids, spans: Sequence[tuple[int, int]], mark: int
) -> tuple[Ids, list[Ids]]:
    """Return a document with a mark in place of each span, and the spans."""
    mark_ids = np.array([mark], np.int32)
    kept: list[Ids] = []
    removed: list[Ids] = []
    position = 0
    for begin, end in spans:
        kept += [document[position:begin], mark_ids]
        removed.append(document[begin:end])
        position = end
    kept.append(document[position:])
    return np.concatenate(kept), removed


# Where sentences begin


def prepare_sentences(
    pairs: Pairs,
    sha256: str,
    tokenizer: Tokenizer,
    *,
    unit: str,
    split_units: SplitUnits,
    cache_dir: str,
) -> TokenColumn:
    """Return the first token of each sentence of each document, from the cache if it is there.

    Args:
        pairs: the split.
        sha256: digest of its texts.
        tokenizer: from ``headcount.data.tokenizer``.
        unit: the name of what ``split_units`` finds.
        split_units: finds sentences, or lines.
        cache_dir: the ``data.cache_dir`` of the config.

    Raises:
        ConfigError: the tokenizer cannot encode one of the documents.
    """

    def build(folder: Path) -> None:
        write_table(folder / "sentences.arrow", SENTENCES_SCHEMA, chunks())

    def chunks() -> Iterator[pa.RecordBatch]:
        for begin in range(0, len(pairs), CHUNK):
            documents = pairs.documents[begin : begin + CHUNK]
            rows = find_sentences(documents, tokenizer, split_units)
            yield pa.record_batch([pa.array(rows, pa.list_(pa.int32()))], SENTENCES_SCHEMA)

    key = [CACHE_VERSION, sha256, fingerprint(tokenizer), unit]
    folder = cached(cache_dir, "sentences", key, build)
    return TokenColumn(read_table(folder / "sentences.arrow")["sentences"])


def find_sentences(
    documents: Sequence[str], tokenizer: Tokenizer, split_units: SplitUnits
) -> list[Ids]:
    """Return the first token of each sentence of each document.

    A sentence of which the tokenizer leaves nothing is none.
    """
    encodings = encode_texts(tokenizer, documents, with_offsets=True)
    rows = []
    for document, encoding in zip(documents, encodings, strict=True):
        ends = np.array([end for _, end in encoding.offsets], np.int64)
        begins = _begins(document, split_units(document))

        # The token that holds the first character, perhaps after a blank.
        first_tokens = np.unique(np.searchsorted(ends, begins, side="right"))
        rows.append(first_tokens[first_tokens < len(ends)].astype(np.int32))
    return rows


def _begins(document: str, units: Sequence[str]) -> list[int]:
    """Return the first character of each unit that is not blank; 0 for the first one."""
    begins: list[int] = []
    position = 0
    for unit in units:
        text = unit.strip()
        if text:
            position = document.index(text, position)
            begins.append(position if begins else 0)
            position += len(text)
    return begins


# Batches


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which objective each optimizer step has, and which step a batch is for.

    Attributes:
        objectives: each with the step at which it begins; the first begins at 0.
        batches_per_step: number of batches of an optimizer step.
        batches_per_epoch: number of batches of an epoch on each process; None: no epochs.
    """

    objectives: Sequence[tuple[int, Objective]] = ((0, "summarize"),)
    batches_per_step: int = 1
    batches_per_epoch: int | None = None

    def objective(self, position: int, epoch: int = 0) -> Objective:
        """Return the objective of a batch.

        Args:
            position: of the batch in its epoch.
            epoch: which one.
        """
        # The last step of an epoch may have fewer batches.
        steps_per_epoch = -(-(self.batches_per_epoch or 0) // self.batches_per_step)
        step = epoch * steps_per_epoch + position // self.batches_per_step
        [*_, current] = [objective for begin, objective in self.objectives if begin <= step]
        return current

    def uses(self, objective: Objective) -> bool:
        """Return whether an objective is among them."""
        return any(objective == each for _, each in self.objectives)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A training pair.

    Attributes:
        number: no other pair of the source has it.
        document: the uncut token ids of the document.
        summary: those of the summary.
        sentences: the first token of each sentence of the document, if an objective needs it.
        texts: document and summary, from which BPE-dropout makes other token ids.
    """

    number: int
    document: Ids
    summary: Ids
    sentences: Ids
    texts: tuple[str, str] = ("", "")


@dataclass(frozen=True, kw_only=True)
class ExampleMaker:
    """Makes of a pair what an objective has.

    Attributes:
        layout: how long documents and summaries may be.
        seed: of everything random, with epoch and number of the example.
        dropout: BPE-dropout, which the objective to summarize has; None: no dropout.
    """

    layout: Layout
    seed: int
    dropout: BpeDropout | None = None

    def make(self, example: Example, objective: Objective, epoch: int) -> tuple[Ids, Ids]:
        """Return the uncut token ids of document and summary."""
        if objective == "summarize":
            if self.dropout is None:
                return example.document, example.summary
            seed = self._generator(example, epoch).integers(2**63)
            document, summary = self.dropout.encode(example.texts, Random(int(seed)))
            return document, summary

        random = self._generator(example, epoch)
        if objective == "infill":
            return infill(example.document, self.layout, random)
        return leave_out_sentences(example.document, example.sentences, self.layout, random)

    def _generator(self, example: Example, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, example.number])


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a training batch is made of.

    Attributes:
        indices: the examples.
        epoch: decides, with seed and example, what is left out.
        objective: of the batch.
    """

    indices: Examples
    epoch: int
    objective: Objective


class TrainingExamples:
    """The training split as the objective of each batch has it.

    Args:
        split: the training split.
        plan: the objectives.
        maker: makes the examples.
        sentences: from ``prepare_sentences``; needed for gap sentences.
        teacher: summaries by other models; None: there are none.
        teacher_share: probability that an example has the teacher's summary in an epoch.

    Attributes:
        lengths: number of tokens of each example, both sides together, after cutting: the most
            that it has in any epoch under any objective of the plan, without BPE-dropout.
    """

    def __init__(
        self,
        split: EncodedPairs,
        plan: Plan,
        maker: ExampleMaker,
        *,
        sentences: TokenColumn | None = None,
        teacher: TeacherSummaries | None = None,
        teacher_share: float = 0.0,
    ) -> None:
        self.split = split
        self.plan = plan
        self.maker = maker
        self.sentences = sentences
        self.teacher = teacher
        self.teacher_share = teacher_share
        objectives = dict.fromkeys(objective for _, objective in plan.objectives)
        self.lengths = np.max([self._lengths(objective) for objective in objectives], axis=0)

    def _lengths(self, objective: Objective) -> NDArray[np.integer]:
        if objective == "summarize":
            return self._summarize_lengths()
        layout = self.split.layout
        lengths = []
        for example, tokens in enumerate(self.split.documents.lengths.tolist()):
            if objective == "gap_sentences" and (gaps := self._gaps(example, tokens)):
                # The tokens, a mark for each gap, and the special ones of both sides.
                longest = layout.max_document_tokens + layout.max_summary_tokens
                lengths.append(min(tokens + gaps + 3, longest))
            else:
                visible = min(tokens, layout.max_document_tokens - 1)
                _, spans = _count_spans(visible, layout)
                lengths.append(visible + 2 * spans + 3)
        return np.array(lengths)

    def _summarize_lengths(self) -> NDArray[np.integer]:
        if self.teacher is None:
            return self.split.lengths
        uncut = np.array([len(ids) + 2 for ids in self.teacher.ids])
        summaries = np.minimum(uncut, self.split.layout.max_summary_tokens)
        return np.maximum(self.split.lengths, self.split.document_lengths + summaries)

    def _gaps(self, example: int, tokens: int) -> int:
        """Return how many sentences are left out of a document at most; 0: it is infilled."""
        sentences = self._sentences(example)
        candidates = _find_candidates(np.append(sentences, tokens), self.split.layout)
        return min(len(candidates), _count_gaps(sentences))

    def batch(self, drawn: Drawn) -> Batch:
        """Lay the examples of a batch end to end."""
        documents: list[Ids] = []
        summaries: list[Ids] = []
        indices = drawn.indices.tolist()
        for index in indices:
            example = self._example(index, drawn.epoch)
            document, summary = self.maker.make(example, drawn.objective, drawn.epoch)
            documents.append(document)
            summaries.append(summary)
        return self.split.layout.batch(indices, documents, summaries)

    def _example(self, index: int, epoch: int) -> Example:
        summary = self.split.summaries[index]
        from_teacher = self.teacher is not None and self._asks_teacher(index, epoch)
        if self.teacher is not None and from_teacher:
            summary = self.teacher.ids[index]

        texts = ("", "")
        if self.maker.dropout is not None:
            text = self.split.pairs.references[index][0]
            if self.teacher is not None and from_teacher:
                text = self.teacher.texts[index]
            texts = (self.split.pairs.documents[index], text)
        return Example(
            number=index,
            document=self.split.documents[index],
            summary=summary,
            texts=texts,
            sentences=self._sentences(index),
        )

    def _asks_teacher(self, index: int, epoch: int) -> bool:
        """Return whether an example has the teacher's summary in an epoch."""
        place = [self.maker.seed, epoch, index, TEACHER]
        return bool(np.random.default_rng(place).random() < self.teacher_share)

    def _sentences(self, example: int) -> Ids:
        return NOT_NEEDED if self.sentences is None else self.sentences[example]
