"""Peak memory of attention, forward and backward, as documents grow: linear, because no matrix of
scores is kept.

    python benchmarks/memory.py

Each length is a process of its own; what importing torch takes is measured the same way and taken
off.
"""

import resource
import subprocess
import sys

LENGTHS = [256, 512, 1024, 2048, 4096, 8192]


def measure(length: int) -> None:
    """Print this process's peak memory in MB after one step at this length.

    0: nothing but imports.
    """
    import torch

    from headcount.model.attention import MultiHeadAttention
    from headcount.model.ragged import BatchLayout

    torch.manual_seed(0)
    attention = MultiHeadAttention(embedding_size=256, num_heads=8)
    x_ND = torch.randn(max(length, 1), 256, requires_grad=True)
    if length:
        output_ND, _ = attention(x_ND, BatchLayout.from_lengths([length]), causal=True)
        output_ND.sum().backward()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    def peak(length: int) -> float:
        return float(subprocess.check_output([sys.executable, __file__, str(length)]))

    base = peak(0)
    print("tokens   peak MB   KB a token   scores alone would be MB")
    for length in LENGTHS:
        used = peak(length) - base
        print(
            f"{length:6} {used:9.1f} {1024 * used / length:12.2f} "
            f"{8 * length * length * 4 / 2**20:12,.0f}"
        )


if __name__ == "__main__":
    measure(int(sys.argv[1])) if len(sys.argv) > 1 else main()
