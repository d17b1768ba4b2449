"""The eval harness: how accurate and how consistent the grader is, measured against labelled answers.

cases → rules, transforms → runner (journal in store) → tables → measure → report, compare, gate
"""
