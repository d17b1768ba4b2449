from __future__ import annotations

import pytest

from coach.formula import readable


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"除以 $\sqrt{d_k}$", "除以 √d_k"),
        (r"$\frac{QK^\top}{\sqrt{d_k}}$", "QKᵀ/√d_k"),
        (r"$\frac{a+b}{c}$", "(a+b)/c"),
        (r"$10000^{2i/d}$", "10000^(2i/d)"),
        (r"$O(n^2 d)$", "O(n² d)"),
        (r"$\pi_\theta$", "π_θ"),
        (r"$\log\frac{a}{b}$", "log(a/b)"),
        (r"$\pi^*$", "π∗"),
        (r"$KL(p\|q)$", "KL(p‖q)"),
        ("没有公式，价格 5 元", "没有公式，价格 5 元"),
    ],
)
def test_formulas_stay_unambiguous_on_one_line(latex: str, text: str) -> None:
    assert readable(latex) == text
