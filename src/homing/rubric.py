"""The written rubric that a chat model judges by: four grades of relevance, in English and Chinese, or one's own."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from homing.errors import SettingError

LANGUAGES = ("en", "zh")
VERSION = "1"
GRADES = (0, 1, 2, 3)
"""0 something else, 1 related, 2 answers in part, 3 answers. Four, as in UMBRELA (arXiv 2406.06519)."""
_HAN = range(0x4E00, 0xA000)


@dataclass(frozen=True)
class Rubric:
    """A text that tells a judge how to grade, and the name under which its judgments are kept: another text, another name."""

    name: str
    text: str


def rubric(source: str | None = None, *, like: str = "", task: str = "") -> Rubric:
    """The rubric of a language (`en`, `zh`) or of a file; None: the language of the text `like`. `task` is what retrieval is for.

    Raises SettingError for a source that is neither.
    """
    if source is None:
        source = "zh" if sum(ord(character) in _HAN for character in like) > len(like) / 10 else "en"
    if source in LANGUAGES:
        name, text = f"homing-{source}-{VERSION}", (files("homing") / "rubrics" / f"{source}.md").read_text(encoding="utf-8")
    else:
        try:
            text = Path(source).read_text(encoding="utf-8-sig").strip() + "\n"
        except (OSError, ValueError) as error:
            raise SettingError(
                "the rubric cannot be read", where=source, got=str(error), expected=f"{' or '.join(LANGUAGES)}, or a file of UTF-8 text"
            ) from None
        name = f"{Path(source).stem}-{sha256(text.encode()).hexdigest()[:8]}"
    if task:
        text = f"{text}\n{'检索任务' if source == 'zh' else 'The task that documents are retrieved for'}: {task.strip()}\n"
        name += f"+{sha256(task.strip().encode()).hexdigest()[:8]}"
    return Rubric(name, text)
