"""The examples of training: each batch as the objective of its step has it.

An example is made when it is used, from its token ids and a random generator that seed, epoch and
example decide. So nothing is stored, and a resumed run makes the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from headcount.config.sections.data import Objective
from headcount.data.batches import Batch, EncodedPairs, Layout
from headcount.data.bpe_dropout import BpeDropout
from headcount.data.objectives import (
    gap_sentences_length,
    infill,
    infill_length,
    leave_out_sentences,
)
from headcount.data.sampler import Examples
from headcount.data.teacher import TeacherSummaries
from headcount.data.tokens import Ids, TokenColumn

NOT_NEEDED: Ids = np.array([], np.int32)  # sentences of an example whose objective needs none
TEACHER = 1  # in a seed: another stream of random numbers than what is left out


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
            if objective == "gap_sentences":
                sentences = self._sentences(example)
                lengths.append(gap_sentences_length(tokens, sentences, layout))
            else:
                lengths.append(infill_length(tokens, layout))
        return np.array(lengths)

    def _summarize_lengths(self) -> NDArray[np.integer]:
        if self.teacher is None:
            return self.split.lengths
        uncut = np.array([len(ids) + 2 for ids in self.teacher.ids])
        summaries = np.minimum(uncut, self.split.layout.max_summary_tokens)
        return np.maximum(self.split.lengths, self.split.document_lengths + summaries)

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
