import math

import pytest
import torch

from headcount.model.positions import alibi, alibi_slopes, rotate, rotation_table, sinusoids


def test_sinusoids_by_the_paper() -> None:
    table = sinusoids(9, 6)
    for position in range(9):
        for i in range(3):
            angle = torch.tensor(position / 10000 ** (2 * i / 6))
            torch.testing.assert_close(table[position, 2 * i], angle.sin())
            torch.testing.assert_close(table[position, 2 * i + 1], angle.cos())
    assert sinusoids(4, 5).shape == (4, 5)


def test_rotation_by_complex_numbers() -> None:
    """Dimensions k and k + K/2 are the parts of a number that is multiplied by exp(i m theta_k)."""
    x = torch.randn(7, 3, 8, dtype=torch.float64)
    places = torch.tensor([0, 1, 2, 5, 5, 9, 30])
    rotated = rotate(x, rotation_table(31, 8).double(), places)
    for n, place in enumerate(places.tolist()):
        for k in range(4):
            turn = complex(
                math.cos(place * 10_000 ** (-2 * k / 8)), math.sin(place * 10_000 ** (-2 * k / 8))
            )
            for h in range(3):
                number = complex(x[n, h, k], x[n, h, k + 4]) * turn
                assert rotated[n, h, k].item() == pytest.approx(number.real, abs=1e-5)
                assert rotated[n, h, k + 4].item() == pytest.approx(number.imag, abs=1e-5)


def test_rotated_products_tell_distances_alone() -> None:
    query, key = torch.randn(2, 1, 1, 16, dtype=torch.float64)
    table = rotation_table(60, 16).double()
    products = [
        (
            rotate(query, table, torch.tensor([place + 7]))
            * rotate(key, table, torch.tensor([place]))
        ).sum()
        for place in range(50)
    ]
    torch.testing.assert_close(torch.stack(products), products[0].expand(50), rtol=0, atol=1e-5)


def test_alibi_by_the_paper() -> None:
    torch.testing.assert_close(alibi_slopes(8), torch.tensor([1 / 2**n for n in range(1, 9)]))
    torch.testing.assert_close(alibi_slopes(3), torch.tensor([2**-4.0, 2**-8.0, 2**-2.0]))
    bias = alibi(alibi_slopes(2), torch.tensor([3, 4]), torch.arange(6))
    for h, slope in enumerate((2**-4, 2**-8)):
        for t, query in enumerate((3, 4)):
            assert bias[h, t].tolist() == pytest.approx(
                [-slope * abs(query - s) for s in range(6)]
            )


def test_tables_do_not_depend_on_the_default_dtype() -> None:
    """A model that is built for bf16 knows the same places as one that is built for fp32."""
    expected = sinusoids(512, 64), rotation_table(512, 64), alibi_slopes(8)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = sinusoids(512, 64), rotation_table(512, 64), alibi_slopes(8)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
