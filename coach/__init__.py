"""Interview coach: grades a free-form answer point by point, shows its evidence, and asks the next question."""

__version__ = "0.1.0"
