"""What CONTRIBUTING shows is what stands in the source."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_example_is_the_source() -> None:
    blocks = re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.S)
    source = (ROOT / "src/headcount/model/attention.py").read_text()
    assert blocks and all(textwrap.dedent(block).strip() in source for block in blocks)
    for line, file in (
        ('"query_key_norm": QueryKeyNormAttention', "src/headcount/model/attention.py"),
        (
            'Attention = Literal["dot_product", "query_key_norm", "additive"]',
            "src/headcount/config/sections/model_attention.py",
        ),
        ('"attention=query_key_norm positions=rotary"', "tests/model/test_architectures.py"),
    ):
        assert line in CONTRIBUTING and line in (ROOT / file).read_text()
