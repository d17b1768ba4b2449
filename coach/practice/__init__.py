"""Practice: a question, an answer, a grade, and up to three follow-ups."""
