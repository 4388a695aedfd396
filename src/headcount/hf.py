"""The models for the transformers library, which loads an export when this module is imported.

    import headcount.hf
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("exported")
    model = AutoModelForSeq2SeqLM.from_pretrained("exported")
    documents = tokenizer(["A long text."], padding=True, truncation=True, return_tensors="pt")
    tokenizer.batch_decode(model.generate(**documents), skip_special_tokens=True)

The classes are those of this package: an export holds data, and no code is loaded from it. Every
architecture is a sequence-to-sequence model here, also GPT: the document is the input, the
summary the output. ``generate`` gives the summaries of our greedy search, token for token, but it
reads the document and all earlier tokens again for each token. ``headcount.load_run`` keeps a
cache.
"""

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headcount.config.load import from_dict
from headcount.config.schema import Config
from headcount.data.tokenizer import words_of
from headcount.errors import ConfigError
from headcount.generation.constraints import (
    Constraint,
    Words,
    apply_constraints,
    build_constraints,
)
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout

try:
    from transformers import (
        AutoConfig,
        AutoModelForSeq2SeqLM,
        GenerationMixin,
        LogitsProcessor,
        LogitsProcessorList,
        PreTrainedConfig,
        PreTrainedModel,
    )
    from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
except ImportError as error:
    raise ConfigError(
        f"headcount.hf needs the transformers library ({error}); legal: pip install "
        "'headcount[hf]'"
    ) from None

IGNORED = -100  # a label that has no loss, in the transformers library


class HeadcountConfig(PreTrainedConfig):
    """The ``config.json`` of an export: the sections of our config, and ``vocab_size``."""

    model_type = "headcount"
    is_encoder_decoder: bool = True
    vocab_size: int = 0

    def sections(self) -> Config:
        """Return our config."""
        names = [declared.name for declared in fields(Config)]
        settings = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return from_dict(settings, "config.json")


class _Documents(nn.Module):
    """Stands for the encoder: it hands the documents' tokens on to the model, which reads them."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutput:
        """Return the tokens in place of hidden states."""
        return BaseModelOutput(last_hidden_state=input_ids)


class HeadcountForSeq2SeqLM(PreTrainedModel, GenerationMixin):
    """A summarizer as a model of the transformers library.

    Args:
        config: of an export.
    """

    config_class = HeadcountConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"

    def __init__(self, config: HeadcountConfig) -> None:
        super().__init__(config)
        sections = config.sections()
        self.model = build_model(
            sections.model, vocabulary_size=config.vocab_size, max_positions=sections.max_positions
        )
        self._tied_weights_keys = _tied_names(self.model, f"{self.base_model_prefix}.")
        config.tie_word_embeddings = bool(self._tied_weights_keys)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        """Load an export; arguments are those of the transformers library."""
        loaded = super().from_pretrained(*arguments, **options)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._restore_tables()
        return loaded

    def _restore_tables(self) -> None:
        """Compute what is not stored: tables of positions, slopes.

        The library builds a model without memory, and has no values for what the file lacks.
        """
        fresh = type(self)(self.config)
        stored = fresh.state_dict()
        for name, table in fresh.named_buffers(remove_duplicate=False):
            if name not in stored:
                self.get_buffer(name).copy_(table)

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the weights with which the model was built."""

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """Return what stands for the encoder."""
        return _Documents()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        **unused: Any,  # what the library adds for caches
    ) -> dict[str, Any]:
        """Return the arguments of ``forward``: all tokens so far, as there is no cache."""
        return {
            "decoder_input_ids": input_ids,
            "attention_mask": attention_mask,
            "encoder_outputs": encoder_outputs,
        }

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> Seq2SeqLMOutput:
        """Predict the token after each summary token.

        Args:
            input_ids: [B, S], the documents' tokens, each closed by the end token.
            attention_mask: [B, S], 1 at tokens and 0 in the padding; None: no padding.
            decoder_input_ids: [B, T], the summaries' tokens from the start token on; None: made of
                the labels.
            encoder_outputs: from ``get_encoder``, instead of ``input_ids``.
            labels: [B, T], the tokens to predict; -100 where there is none.
            return_dict: the output is a mapping, whatever this is.

        Returns:
            The logits [B, T, V], as ``SummaryModel.step`` returns them; and the loss if there are
            labels.
        """
        document_ids_BS = input_ids if encoder_outputs is None else encoder_outputs[0]
        if document_ids_BS is None:
            raise ValueError("input_ids is missing")
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("decoder_input_ids and labels are missing")
            decoder_input_ids = self._shift_right(labels)

        # The model reads examples end to end, without padding.
        device = document_ids_BS.device
        if attention_mask is None:
            attention_mask = torch.ones_like(document_ids_BS)
        is_token_BS = attention_mask.bool()
        document_layout = BatchLayout.from_lengths(is_token_BS.sum(1).tolist(), device)
        batch, length = decoder_input_ids.shape
        summary_layout = BatchLayout.from_lengths([length] * batch, device)
        output = self.model(
            document_ids_BS[is_token_BS],
            document_layout,
            decoder_input_ids.flatten(),
            summary_layout,
        )

        logits_MV = output.next_logits()
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits_MV, labels.flatten(), ignore_index=IGNORED)
        return Seq2SeqLMOutput(loss=loss, logits=logits_MV.view(batch, length, -1))

    def _shift_right(self, labels_BT: Tensor) -> Tensor:
        """Return the inputs of teacher forcing: the start token and all labels but the last."""
        start_B1 = torch.full_like(labels_BT[:, :1], self.config.decoder_start_token_id)
        inputs_BT = torch.cat([start_B1, labels_BT[:, :-1]], 1)
        return inputs_BT.masked_fill(inputs_BT == IGNORED, self.config.pad_token_id)


def _tied_names(model: nn.Module, prefix: str) -> dict[str, str]:
    """Return for each further name of a shared weight the first name."""
    first_name: dict[int, str] = {}
    tied = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        first = first_name.setdefault(id(weight), name)
        if first != name:
            tied[f"{prefix}{name}"] = f"{prefix}{first}"
    return tied


class _ConstraintProcessor(LogitsProcessor):
    """Our constraints for their ``generate``."""

    def __init__(self, constraints: list[Constraint]) -> None:
        self.constraints = constraints

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores [B, V] of the next token, constrained; tokens are [B, 1 + T]."""
        generated_BWT = input_ids[:, None, 1:]
        logits_BWV = scores[:, None].clone()
        apply_constraints(self.constraints, logits_BWV, generated_BWT)
        return logits_BWV[:, 0]


def constraints(model: HeadcountForSeq2SeqLM, tokenizer: Any) -> LogitsProcessorList:
    """Return the constraints of the model's config, for ``generate(logits_processor=...)``.

    N-gram blocking by words and our repetition penalty are not those of the transformers library.

    Args:
        model: from ``AutoModelForSeq2SeqLM``.
        tokenizer: from ``AutoTokenizer``, of the same export.
    """
    config = model.config.sections().generation
    words = None
    if config.no_repeat_ngram_size:
        begins, within = words_of(tokenizer.backend_tokenizer)
        words = Words(begins_V=torch.tensor(begins), within_V=torch.tensor(within))
        words = words.to(model.device)
    ours = build_constraints(config, end_id=model.config.eos_token_id, words=words)
    return LogitsProcessorList([_ConstraintProcessor(ours)] if ours else [])


AutoConfig.register(HeadcountConfig.model_type, HeadcountConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(HeadcountConfig, HeadcountForSeq2SeqLM, exist_ok=True)
