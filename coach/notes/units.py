"""Lines with roles → units: a question with its answer, or a piece of prose; every line is accounted for.

Key by position, never by number: lists restart, skip and repeat numbers. A unit's `lines` keep one entry per source
line from `first_line` to `last_line`, empty where a line was dropped, so that a citation can be counted off.
"""

from __future__ import annotations

import re

from coach.notes import marks
from coach.notes.model import Dropped, Parsed, Unit
from coach.notes.scan import Line, Scanned
from coach.notes.sections import (
    Draft,
    Section,
    asks_by_number,
    bodies,
    head_of,
    is_item,
    sections,
    with_text,
)
from coach.notes.status import status_of

_ADDED = re.compile(r"^【(?:补充|追问|延伸|扩展)】\s*(.{3,60}?[？?])\s*(\S.{14,})$")
_NARRATED = re.compile(r"(?:面试官|他|她)?.{0,6}?(?:让我|问了我|要求我|问我|问到了?)(.{4,60}?)[，。；,;]")
_ANSWER_MARK = re.compile(r"^(?:答案?|A\d*|回答|参考答案|解答)\s*[:：]\s*")
# A prose unit shorter than this says nothing that a query could be answered with.
MIN_PROSE_CHARS = 20


class _Builder:
    def __init__(self, scanned: Scanned) -> None:
        self.scanned = scanned
        self.drafts: list[Draft] = []
        self.dropped: list[Dropped] = []
        self.headings: list[tuple[int, str]] = []

    def drop(self, x: Line, reason: str) -> None:
        x.drop = x.drop or reason

    def run(self) -> Parsed:
        for section in sections(self.scanned.lines):
            if section.heading is not None:
                self.headings.append((section.heading.number, section.heading.text))
            if asks_by_number(section):
                self._numbered(section)
            elif self._bulleted_questions(section):
                self._bulleted(section)
            else:
                self._prose(section)
        units = [u for d in self._without_labels() for u in self._finish(d)]
        placed = {h for h, _ in self.headings} | {
            n for u in units for n in (*u.asked, *range(u.first_line, u.last_line + 1))
        }
        for x in self.scanned.lines:
            if x.images and not x.drop and not x.text and x.number not in placed:
                x.drop = "image"
            if x.drop and not x.blank:
                self.dropped.append(Dropped(x.number, x.drop, marks.clean(x.raw)[:60]))
        units.sort(key=lambda u: (u.question_line or u.first_line, u.first_line))
        return Parsed(units, self.dropped, self.headings)

    def _without_labels(self) -> list[Draft]:
        """A numbered line that only heads other questions is a heading, not an unanswered question."""
        kept = []
        for i, d in enumerate(self.drafts):
            after = self.drafts[i + 1] if i + 1 < len(self.drafts) else None
            bare = d.kind == "question" and not d.said and not marks.ends_as_question(d.question)
            heads = after is not None and after.path[: len(d.path) + 1] == (*d.path, d.question)
            if bare and (heads or (d.restarted and marks.GROUP.search(d.question))):
                self.headings.append((d.asked[0].number, d.question))
            else:
                kept.append(d)
        return kept

    # ── numbered questions ───────────────────────────────────────────────────────────────────────
    def _numbered(self, section: Section) -> None:
        lines = section.lines
        starts = [i for i, x in enumerate(lines) if is_item(x)]
        self._prose(Section(section.path, section.heading, lines[: starts[0]]))
        listed = bodies(section) < 0.5 * len(starts)
        for i, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            head, body = lines[i], lines[i + 1 : end]
            question, said = head_of(head)
            if marks.is_empty(question):
                self.drop(head, "empty slot")
                if any(not x.blank and not x.drop for x in body):
                    self._prose(Section(section.path, None, body))
                continue
            draft = Draft("question", section.path, question, [head], [], bool(said), stars=head.stars)
            draft.restarted = end < len(lines) and bool(re.match(r"^\s*1[.、)）]", lines[end].raw))
            body = self._continued(draft, head, body) if not said else body
            if said:
                draft.body = [with_text(head, said)]
            children = self._children(body, question, listed)
            if children:
                self.headings.append((head.number, question))
                for x in children:
                    self.drafts.append(
                        Draft("question", (*section.path, question), x.text, [x], stars=x.stars)
                    )
                continue
            self._answer(draft, body)

    def _continued(self, draft: Draft, head: Line, body: list[Line]) -> list[Line]:
        """A question that goes on in the next line, which stands alone before a blank one."""
        if not body or body[0].blank or body[0].drop or body[0].marker or body[0].code or body[0].images:
            return body
        alone = len(body) == 1 or body[1].blank
        open_ = head.raw.count("<u>") > head.raw.count("</u>") or body[0].raw.strip().startswith("<u>")
        loose = not marks.ends_as_question(head.text) and body[0].indent > 1 and len(body) > 1
        wraps = body[0].raw.strip().endswith(("</u>", "？", "?")) or head.text.endswith(("，", ","))
        if alone and not marks.ends_as_question(head.text) and (open_ or (loose and wraps)):
            draft.question = (
                f"{draft.question}{body[0].text}"
                if not draft.question.isascii()
                else f"{draft.question} {body[0].text}"
            )
            draft.asked.append(body[0])
            return body[1:]
        return body

    def _children(self, body: list[Line], label: str, listed: bool) -> list[Line]:
        """Bare lines below a numbered label of a list without answers: each is a question of its own."""
        said = [x for x in body if not x.blank and not x.drop]
        plain = [
            x
            for x in said
            if not x.marker
            and not x.code
            and x.indent <= 1
            and len(x.text) <= 40
            and not x.text.endswith("。")
        ]
        if listed and len(said) >= 2 and len(plain) == len(said) and not marks.ends_as_question(label):
            return plain if sum(marks.asks(x.text) for x in plain) >= 0.4 * len(plain) else []
        return []

    def _answer(self, draft: Draft, body: list[Line]) -> None:
        """The answer of a question, cut where a question of its own stands inside it."""
        current = draft
        self.drafts.append(draft)
        for i, x in enumerate(body):
            if x.drop or x.blank or x.code:
                current.body.append(x)
                continue
            added = _ADDED.match(x.text)
            if added:
                current = Draft(
                    "question", (*draft.path, draft.question), added[1], [x], [with_text(x, added[2])], True
                )
                self.drafts.append(current)
                continue
            alone = (i == 0 or body[i - 1].blank) and (i + 1 >= len(body) or body[i + 1].blank)
            underlined = bool(re.fullmatch(r"\s*<u>.*</u>\s*", x.raw))
            if (
                alone
                and not x.marker
                and not self.scanned.dashed
                and 5 <= len(x.text) <= 60
                and marks.ends_as_question(x.text)
                and not re.search(r"[:：。《]|^[a-z ]+\?", x.text, re.I)
                and (underlined or marks.asks(x.text))
            ):
                current = Draft("question", (*draft.path, draft.question), x.text, [x], stars=x.stars)
                self.drafts.append(current)
                continue
            current.body.append(x)

    # ── bulleted questions ───────────────────────────────────────────────────────────────────────
    def _bulleted_questions(self, section: Section) -> bool:
        bullets = [x for x in section.lines if x.marker == "bullet" and not x.drop and x.indent <= 3]
        said = [x for x in section.lines if not x.blank and not x.drop]
        name = section.path[-1] if section.path else ""
        if len(bullets) < 1 or marks.ends_as_question(name) or len(bullets) < 0.6 * len(said):
            return False
        if marks.TELLS.search(name) and not marks.ASKS.search(name):
            return False
        leaves, asking, label = 0, 0, ""
        for x, after in zip(bullets, [*bullets[1:], None], strict=True):
            if after is not None and after.level > x.level:
                label = x.text
                continue
            leaves += 1
            asking += len(x.text) <= 80 and bool(
                marks.asks(x.text) or (x.level > 1 and marks.ASKS.search(label))
            )
        return leaves >= 2 and asking >= 0.45 * leaves

    def _bulleted(self, section: Section) -> None:
        group: tuple[str, ...] = ()
        lines = [x for x in section.lines if not x.blank]
        current: Draft | None = None
        for i, x in enumerate(lines):
            if x.drop:
                continue
            if x.marker != "bullet":
                if current is None:
                    self._prose(Section(section.path, None, [x]))
                else:
                    current.body.append(x)
                continue
            after = next((y for y in lines[i + 1 :] if not y.drop), None)
            is_parent = after is not None and after.marker == "bullet" and after.level > x.level
            if (
                x.level == 1
                and is_parent
                and not marks.ends_as_question(x.text)
                and not marks.HR.search(x.text)
            ):
                group, current = (x.text,), None
                self.headings.append((x.number, x.text))
                continue
            if marks.is_empty(x.text):
                self.drop(x, "empty slot")
                continue
            if x.level == 1:
                group = ()
            question, said = head_of(x)
            current = Draft("question", (*section.path, *group), question, [x], stars=x.stars)
            if said:
                current.inline, current.body = True, [with_text(x, said)]
            self.drafts.append(current)

    # ── prose ────────────────────────────────────────────────────────────────────────────────────
    def _prose(self, section: Section) -> None:
        said = [x for x in section.lines if not x.blank and not x.drop]
        heading = section.heading
        name = section.path[-1] if section.path else ""
        if heading is not None and heading.marker == "heading" and said:
            asked = re.sub(r"^[\d.、（）()一二三四五六七八九十\s]+(?=\S)", "", name)
            if marks.ends_as_question(name) or (
                marks.asks(asked) and not marks.TELLS.search(asked) and not marks.ASKS.search(asked)
            ):
                draft = Draft("question", section.path[:-1], asked or name, [heading], stars=heading.stars)
                self._answer(draft, section.lines)
                return
            if all(x.images and not x.text for x in said):
                pictured = Draft(
                    "question",
                    section.path[:-1],
                    re.sub(r"^[\d.、\s]+", "", name),
                    [heading],
                    list(section.lines),
                )
                if not re.match(r"^\s*(?:\d+|[一二三四五六七八九十]+)[.、\s]", name):
                    self.drafts.append(pictured)
                    return
        if not said:
            return
        for x in said:
            if _ANSWER_MARK.fullmatch(x.text):
                self.drop(x, "label")
        for x in said:
            narrated = None if x.marker or x.code else _NARRATED.search(x.text)
            if (narrated and marks.ASKS.search(" ".join(section.path))) or (narrated and "项目" in name):
                assert narrated is not None
                draft = Draft("question", section.path, narrated[1].strip(), [x], [x], True, True)
                self.drafts.append(draft)
                said = [y for y in said if y is not x]
        total = sum(len(x.text) for x in said)
        if total < MIN_PROSE_CHARS or not any(marks.fold(x.text) for x in said):
            for x in said:
                self.drop(x, "image" if x.images and not x.text else "too short to stand alone")
            return
        taken = {x.number for x in said}
        runs: list[list[Line]] = [[]]
        for x in section.lines:
            if not x.blank and not x.drop and x.number not in taken:
                runs.append([])
            elif runs[-1] or not x.blank:
                runs[-1].append(x)
        self.drafts.extend(Draft("prose", section.path, body=r) for r in runs if any(y.text for y in r))

    # ── finishing ────────────────────────────────────────────────────────────────────────────────
    def _finish(self, draft: Draft) -> list[Unit]:
        body = list(draft.body)
        while body and (
            body[0].blank or body[0].drop or not (body[0].text or body[0].images or body[0].joined)
        ):
            body.pop(0)
        while body and (
            body[-1].blank or body[-1].drop or not (body[-1].text or body[-1].images or body[-1].joined)
        ):
            body.pop()
        answer, labels = status_of(
            body, narrated=draft.narrated, compound=len(marks.parts(draft.question)) > 1
        )
        del labels
        asked = draft.asked[0].number if draft.asked else 0
        if draft.kind == "prose" and not body:
            return []
        said = [x for x in body if x.text and not x.drop]
        if not said:
            rows, first = (tuple(x.text for x in draft.asked), asked)
            if draft.asked and not draft.asked[0].text:
                rows = (draft.question,)
        else:
            first = body[0].number
            by_number = {
                x.number: (x.text if (not x.drop and not x.images) or (x.text and not x.drop) else "")
                for x in body
            }
            rows = tuple(by_number.get(n, "") for n in range(first, body[-1].number + 1))
            if rows and _ANSWER_MARK.match(rows[0]):
                rows = (_ANSWER_MARK.sub("", rows[0]), *rows[1:])
        everything = [*draft.asked, *draft.body]
        return [
            Unit(
                kind=draft.kind,
                question=draft.question,
                parts=marks.parts(draft.question) if draft.question else (),
                path=draft.path,
                question_line=asked,
                first_line=first,
                last_line=first + len(rows) - 1,
                lines=rows,
                asked=tuple(x.number for x in draft.asked),
                answer=answer if draft.kind == "question" else "full",
                stars=max([draft.stars, *(x.stars for x in draft.asked)]),
                images=sum(x.images for x in draft.body)
                + sum(x.images for x in draft.asked if x not in draft.body),
                references=tuple(dict.fromkeys(r for x in everything for r in x.references)),
            )
        ]


def parse(scanned: Scanned) -> Parsed:
    return _Builder(scanned).run()
