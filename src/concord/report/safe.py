"""What a page lets in: texts from outside as one line of text, and no style or script but its own."""

import base64
import hashlib
from typing import Any

from markupsafe import Markup

from concord.text import plain


def outside(value: Any) -> Any:
    """Texts in one line without control characters; markup of our own as it is. For a template's ``finalize``."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def policy(style: str, script: str) -> str:
    """The content security policy of a page that holds its images, and this text of style and script."""
    return (
        f"default-src 'none'; img-src data:; style-src '{source(style)}'; script-src '{source(script)}';"
        " base-uri 'none'; form-action 'none'"
    )


def source(text: str) -> str:
    """How a policy names a style or a script: by its hash, which any other text fails."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
