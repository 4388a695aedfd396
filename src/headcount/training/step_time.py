"""How long a training step takes on this machine."""

import time

import torch

from headcount.config.schema import Config
from headcount.model.build import build_model
from headcount.model.ragged import BatchLayout
from headcount.training.optimizers import make_optimizer


def time_step(config: Config) -> float:
    """Return the seconds of a training step on this machine, with a full batch of the longest
    pairs and the optimizer of the config."""
    may_use_gpu = torch.cuda.is_available() and config.trainer.get("accelerator") != "cpu"
    device = "cuda" if may_use_gpu else "cpu"
    vocabulary_size = config.tokenizer.vocabulary_size
    model = build_model(
        config.model, vocabulary_size=vocabulary_size, max_positions=config.max_positions
    ).to(device)
    optimizer = make_optimizer(model, config.optimizer, fused=True)

    # A batch of random tokens.
    document_length = config.data.max_document_tokens
    summary_length = config.data.max_summary_tokens
    examples = config.data.batch_tokens // (document_length + summary_length)
    documents_N = torch.randint(vocabulary_size, (examples * document_length,), device=device)
    summaries_M = torch.randint(vocabulary_size, (examples * summary_length,), device=device)
    document_layout = BatchLayout.from_lengths([document_length] * examples, device)
    summary_layout = BatchLayout.from_lengths([summary_length] * examples, device)

    durations = []
    for _ in range(3):
        start = time.perf_counter()
        outputs = []
        for _ in range(config.optimizer.passes):
            outputs.append(model(documents_N, document_layout, summaries_M, summary_layout))
        loss = torch.stack([output.loss(summaries_M) for output in outputs]).sum()
        if config.optimizer.r_drop:
            loss = loss + outputs[0].divergence(outputs[1])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        durations.append(time.perf_counter() - start)
    return min(durations[1:])  # the first one warms up
