"""Language models behind one narrow seam: `LLM.chat`. Nothing above this floor knows a provider."""

from coach.llm.base import LLM, Capabilities, Reply
from coach.llm.providers import PROVIDERS, describe, open_llm

__all__ = ["LLM", "PROVIDERS", "Capabilities", "Reply", "describe", "open_llm"]
