"""Grading a pile of written answers: read, match to questions, grade what is missing, tabulate.

readers → fields → questions → spool → pool (Grader.grade) → store → tables, summary, report
"""
