"""Notes of any shape → passages with exact source lines, and the questions they answer.

    documents → scan → (personal) → units → repeats → sets → chunks → index

What messy notes do, and what becomes of it. Tests: `tests/test_import_formats.py`, `tests/test_import.py`.

handled
    fence tagged markdown                 unwrapped; other fences stay code
    front matter                          fields to metadata; `{{…}}` refused; wikilinks and # unwrapped
    date lines, bylines, buttons, ads,    dropped, one reason a line (`furniture`); slogans between buttons at the
    chatbot and closing phrases, tags,    end of a page too; a table row here for a new site
    templates, omission notes
    emoji field labels, unmarked          headings by wording, or by standing without a dash where items have one
    headings, closing sections
    references, bare URLs                 out of the text, kept with the unit
    bare `-`, before or after the item,   bullet of the next line; never a setext heading
    glued to a sentence
    problem numbers (152. …)              stay in the text
    numbers reset, skipped, repeated      units are keyed by position
    empty slots in any spelling           dropped as such
    bare lines below a numbered label     questions of their own
    label heading other questions         a heading, not an unanswered question
    merged numbers (1. & 2.)              one unit
    several questions in one line         one unit with `parts`
    question over two lines, `<u>`        joined; `<u>` is neither needed nor enough
    sub-questions in answers              units of their own; prompts inside advice are not
    statements as questions (…？)         kept as asked: a list of questions is a list of questions
    repeated questions, copied blocks     merged over the whole set, the other place is remembered
    comments as headings, unfenced code   code by its look, with its neighbours; indentation is not invented
    tabs, small or big indentation        never ends an answer, never makes code
    stars, <u>, bold that does not close, removed by rule, not by a renderer; stars become importance
    ==highlight==, escaped *args, __new__
    spaces inside Chinese                 closed
    tables, also touching text            rows kept, padding and rulers shortened
    inline code on lines of its own       joined into its sentence, line count kept
    images (Markdown, HTML, embeds)       removed and counted; image-only and truncated answers are said
    outline, label without text, half     partial / outline; a compound question with a picture is partial
    answers told in the first person      partial, the asked clause becomes the question
    personal data, application logs       masked or left out, listed masked (`personal`)

not handled, with the reason
    answer under the wrong question       needs understanding, not parsing; `coach notes check` may find the statement
    which part of a compound question     the unit is partial or full as a whole; parts are not aligned to paragraphs
      an answer leaves out
    indentation of code that lost it      guessing a Python block structure would forge code
    `-` between flattened cells           also a hyphen and a minus; the cell stays as written
    language of an unmarked fence         nothing depends on it
    misspelt terms                        only those in `knowledge/terms.yaml` are bridged; notes are never rewritten
    figures named in text but gone        the sentence stays
    lost list levels (nested numbers)     flat: levels cannot be told from numbers
    scanned PDFs                          refused with a hint at OCR
"""
