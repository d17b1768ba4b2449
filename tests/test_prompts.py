from __future__ import annotations

from pathlib import Path

import pytest

from coach.config import resource
from coach.errors import PromptError
from coach.prompts import load_prompt, parse_prompt

GOOD = "---\npurpose: test\nversion: 1\nvariables: [a, b]\n---\n## system\nfixed $$1\n## user\n$a and $b\n"


def test_fill_is_one_pass_so_values_are_never_templates() -> None:
    messages = parse_prompt("p", GOOD).fill(a="$b", b="B")
    assert messages == [{"role": "system", "content": "fixed $1"}, {"role": "user", "content": "$b and B"}]


def test_fill_names_every_missing_and_unused_variable() -> None:
    with pytest.raises(PromptError, match=r"missing: a, b; unused: c"):
        parse_prompt("p", GOOD).fill(c="x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("no front matter", "no front matter", id="no front matter"),
        pytest.param(GOOD.replace("[a, b]", "[a]"), "declares", id="undeclared variable"),
        pytest.param(GOOD.replace("[a, b]", "[a, b, c]"), "declares", id="unused declaration"),
        pytest.param(GOOD.replace("## user", "## wizard"), "sections", id="unknown role"),
        pytest.param(GOOD.replace("version: 1", "versions: 1"), "exactly", id="wrong key"),
        pytest.param(GOOD.replace("$$1", "$ 1"), "stray", id="stray dollar"),
    ],
)
def test_broken_prompt_files_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        parse_prompt("p", text)


def test_the_hash_is_of_the_content() -> None:
    assert (
        parse_prompt("p", GOOD).content_hash != parse_prompt("p", GOOD.replace("fixed", "Fixed")).content_hash
    )


@pytest.mark.parametrize("path", sorted(resource("prompts").glob("*.md")), ids=lambda p: p.stem)
def test_every_shipped_prompt_loads(path: Path) -> None:
    prompt = load_prompt(path.parent, path.stem)
    assert prompt.purpose and prompt.messages[-1][0] == "user"
