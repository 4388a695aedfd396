"""What a head attends to: roles, each compared with random weights on the same documents.

Most roles are a set of target keys for each query. Their score is the attention that goes to the
targets, averaged over the queries that have both targets and other keys. If the weights of each
query are shuffled over the keys that it may attend to, the expected score is the share of targets
among those keys, so that the expectation of random weights needs no simulation:

- ``previous`` and ``next``: the token before or after the query
- ``same``: other occurrences of the query's token
- ``induction``: tokens that follow an earlier occurrence of the query's token (Olsson et al. 2022)
- ``first``: the first token
- ``delimiter``: special tokens and punctuation (Clark et al. 2019, section 3.2)
- ``copying``: source tokens equal to the token that the decoder generates next
- ``selecting``: source tokens that occur in the rest of the summary, from the next token on
- ``speaker``: source tokens that ``tokenizer.words`` names, such as the tags of speakers

Two roles have no target keys:

- ``position``: the share of the weights' variance that the offset of key and query explains; its
  expectation is that of shuffled weights
- ``monotone``: the rank correlation (Spearman) between the mean position of attention and the
  decoding step; its expectation is zero

The p-value is that of a one-sided sign-flip test of the excess over the expectation, paired by
document.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headcount.evaluation.bootstrap import holm
from headcount.heads.attention_maps import AttentionMap, Mask
from headcount.heads.statistics import LEVEL, sign_flip_p

Values = NDArray[np.float64]
SELF_ROLES = ("previous", "next", "same", "induction", "first", "delimiter", "position")
CROSS_ROLES = ("copying", "selecting", "monotone", "first", "delimiter", "speaker")
MIN_EXCESS = 0.1  # least excess over the expectation with which a head has a role
MIN_STEPS = 4  # least length of a summary in tokens for which ``monotone`` is computed


@dataclass(frozen=True, kw_only=True)
class TokenKinds:
    """The kinds of tokens that roles depend on, as masks over the vocabulary.

    Attributes:
        is_delimiter: special tokens and punctuation, [vocabulary].
        is_speaker: tokens that ``tokenizer.words`` names, [vocabulary].
    """

    is_delimiter: Mask
    is_speaker: Mask


@dataclass(frozen=True, kw_only=True)
class RoleScore:
    """The score of one head for one role.

    Attributes:
        score: mean over documents.
        expected: mean score of random weights on the same documents.
        p: one-sided p-value of an excess over the expectation, not corrected.
        corrected_p: corrected for all heads and roles of the analysis (Holm 1979).
    """

    score: float
    expected: float
    p: float
    corrected_p: float

    @property
    def excess(self) -> float:
        """Score above the expectation."""
        return self.score - self.expected

    @property
    def is_held(self) -> bool:
        """Whether the head has the role: a significant excess that is large enough to matter."""
        return self.corrected_p < LEVEL and self.excess >= MIN_EXCESS


def role_targets(attention: AttentionMap, role: str, kinds: TokenKinds) -> Mask:
    """Return the target keys of a role for each query of a map, [queries, keys].

    Raises:
        ValueError: the role has no targets, or the map has no such role.
    """
    keys = np.arange(len(attention.key_ids))
    equal = attention.query_ids[:, None] == attention.key_ids
    if role == "first":
        return np.broadcast_to(keys == 0, equal.shape)
    if role == "delimiter":
        return np.broadcast_to(kinds.is_delimiter[attention.key_ids], equal.shape)
    if role == "speaker":
        return np.broadcast_to(kinds.is_speaker[attention.key_ids], equal.shape)

    if attention.positions is not None:
        offsets = keys - attention.positions[:, None]
        if role == "previous":
            return offsets == -1
        if role == "next":
            return offsets == 1
        if role == "same":
            return equal & (offsets != 0)
        if role == "induction":
            # The key follows an earlier token that equals the query's. With an offset of 1 that
            # token would be the query itself.
            follows = np.zeros_like(equal)
            follows[:, 1:] = equal[:, :-1]
            return follows & (offsets <= 0)
    elif attention.next_ids is not None:
        if role == "copying":
            return attention.next_ids[:, None] == attention.key_ids
        if role == "selecting":
            # True from the first step to the last one that generates the key's token.
            is_generated = attention.next_ids[:, None] == attention.key_ids
            return np.logical_or.accumulate(is_generated[::-1])[::-1]
    raise ValueError(f"role {role}: {attention.block} has no such role")


def score_roles(
    attention: AttentionMap,
    kinds: TokenKinds,
    generator: np.random.Generator,
    roles: Sequence[str] | None = None,
) -> dict[str, tuple[Values, Values]]:
    """Score the heads of a block on one document.

    Args:
        attention: the attention map of the block.
        kinds: kinds of tokens.
        generator: source of the shuffled weights of ``position``.
        roles: names of roles; None: all of the map's site.

    Returns:
        For each role the scores and the scores expected of random weights, each [heads]; NaN where
        no query of the document has both targets and other keys.
    """
    if roles is None:
        roles = CROSS_ROLES if attention.positions is None else SELF_ROLES
    found = {}
    for role in roles:
        if role == "position":
            found[role] = _position_scores(attention, generator)
        elif role == "monotone":
            found[role] = _monotone_scores(attention)
        else:
            found[role] = _target_scores(attention, role_targets(attention, role, kinds))
    return found


def _target_scores(attention: AttentionMap, targets: Mask) -> tuple[Values, Values]:
    reachable = targets & attention.allowed
    num_targets = reachable.sum(1)
    num_allowed = attention.allowed.sum(1)
    heads = len(attention.weights)

    # A query without a target, or with targets only, has the same score whatever the head does.
    has_choice = (num_targets > 0) & (num_targets < num_allowed)
    if not has_choice.any():
        return np.full(heads, np.nan), np.full(heads, np.nan)

    weights = attention.weights[:, has_choice]
    to_targets = np.einsum("hts,ts->ht", weights, reachable[has_choice])
    expected = (num_targets[has_choice] / num_allowed[has_choice]).mean()
    return to_targets.mean(1), np.full(heads, expected)


def _position_scores(
    attention: AttentionMap, generator: np.random.Generator
) -> tuple[Values, Values]:
    assert attention.positions is not None
    # Offsets from zero, as bincount needs them.
    offsets = np.arange(len(attention.key_ids)) - attention.positions[:, None]
    offsets_of_allowed = (offsets - offsets.min())[attention.allowed]

    def explained_variance(weights: Values) -> float:
        values = weights[attention.allowed]
        total = ((values - values.mean()) ** 2).sum()
        if total == 0:
            return 0.0

        # Predict each weight by the mean weight of its offset.
        counts = np.bincount(offsets_of_allowed)
        sums = np.bincount(offsets_of_allowed, weights=values)
        means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
        return float(1 - ((values - means[offsets_of_allowed]) ** 2).sum() / total)

    # Means of few weights explain some variance by chance; shuffled weights show how much.
    scores = []
    expected = []
    for weights in attention.weights:
        scores.append(explained_variance(weights))
        shuffled = _shuffle(weights, attention.allowed, generator)
        expected.append(explained_variance(shuffled))
    return np.array(scores), np.array(expected)


def _shuffle(weights: Values, allowed: Mask, generator: np.random.Generator) -> Values:
    """Shuffle the weights of each query over the keys that it may attend to."""
    shuffled = np.zeros_like(weights)
    for query, is_allowed in enumerate(allowed):
        shuffled[query, is_allowed] = generator.permutation(weights[query, is_allowed])
    return shuffled


def _monotone_scores(attention: AttentionMap) -> tuple[Values, Values]:
    heads, steps, keys = attention.weights.shape
    if steps < MIN_STEPS or keys < 2:
        return np.full(heads, np.nan), np.full(heads, np.nan)
    centres = attention.weights @ np.arange(keys)
    scores = np.array([spearman(centre, np.arange(steps)) for centre in centres])
    return scores, np.zeros(heads)


def spearman(x: Values, y: NDArray[np.float64] | NDArray[np.int64]) -> float:
    """Return the rank correlation (Spearman 1904); zero if all values of either are equal."""
    # Rounded, because sums of the same weights in another order differ in the last digits, and
    # equal values must get equal ranks.
    ranks_x = _mean_ranks(np.round(x, 12))
    ranks_y = _mean_ranks(y)

    from_mean_x = ranks_x - ranks_x.mean()
    from_mean_y = ranks_y - ranks_y.mean()
    norm = np.sqrt((from_mean_x**2).sum() * (from_mean_y**2).sum())
    return float((from_mean_x * from_mean_y).sum() / norm) if norm > 0 else 0.0


def _mean_ranks(values: NDArray[np.float64] | NDArray[np.int64]) -> Values:
    """Return ranks from zero; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    # The equal values of a group occupy the ranks from end - count to end - 1.
    ends = counts.cumsum()
    means = ends - (counts + 1) / 2
    return np.asarray(means[inverse], dtype=np.float64)


def find_roles(
    scores: dict[tuple[str, str], tuple[Values, Values]],
) -> dict[tuple[str, str], list[RoleScore]]:
    """Test the scores of all heads and roles.

    Args:
        scores: by block and role the scores and the expectations, each [documents, heads]; NaN
            where a document has no value.

    Returns:
        By block and role the scores of each head. A role without a value in any document is left
        out.
    """
    # One test for each head and role.
    members: list[tuple[tuple[str, str], int]] = []
    excesses = []
    for key, (observed, expected) in scores.items():
        if not np.isfinite(observed).any():
            continue
        for head in range(observed.shape[1]):
            members.append((key, head))
            excesses.append(observed[:, head] - expected[:, head])

    # All tests of the analysis are one family.
    p_values = sign_flip_p(excesses, one_sided=True)
    corrected = holm(p_values)
    found: dict[tuple[str, str], list[RoleScore]] = {}
    for (key, head), p, corrected_p in zip(members, p_values, corrected, strict=True):
        observed, expected = scores[key]
        found.setdefault(key, []).append(
            RoleScore(
                score=float(np.nanmean(observed[:, head])),
                expected=float(np.nanmean(expected[:, head])),
                p=p,
                corrected_p=corrected_p,
            )
        )
    return found


def token_kinds(
    texts: Sequence[str], special: set[int], is_word: Callable[[str], bool]
) -> TokenKinds:
    """Return the kinds of the tokens of a vocabulary.

    Args:
        texts: decoded text of each token.
        special: ids of the special tokens.
        is_word: returns whether ``tokenizer.words`` matches the whole of a text.
    """
    stripped = [text.strip() for text in texts]
    is_delimiter = []
    for token, text in enumerate(stripped):
        is_punctuation = bool(text) and not any(letter.isalnum() for letter in text)
        is_delimiter.append(token in special or is_punctuation)
    return TokenKinds(
        is_delimiter=np.array(is_delimiter),
        is_speaker=np.array([bool(text) and is_word(text) for text in stripped]),
    )
