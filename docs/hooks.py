"""What the site takes from the top of the repository: README and its like, each as a page of its own."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {  # file of the repository: page or file of the site
    "README.md": "index.md",
    "model/MODEL_CARD.md": "model-card.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE",
    "CITATION.cff": "CITATION.cff",
}
LINK = re.compile(r"(?<=\]\()[^)\s#:]+(?=[)#])|(?<=<img src=\")[^\":]+")  # the path in [text](path#place) or an image


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are files outside docs/."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(root / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links are written as the repository has its files; on the site they lead to its pages."""
    page_path = page.file.src_uri
    source = next((source for source, of in PAGES.items() if of == page_path), f"docs/{page_path}")
    return LINK.sub(lambda match: page_link(match.group(), source, page_path), markdown)


def page_link(link: str, source: str, page: str) -> str:
    """A link in the repository's file `source` as it must read on the site's page `page`."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    on_site = PAGES.get(target, target.removeprefix("docs/"))
    return posixpath.relpath(on_site, posixpath.dirname(page) or ".")
