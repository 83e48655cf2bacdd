"""The Python of the README and of docs/ runs as it stands there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = {
    f"{page.name}-{number}": snippet
    for page in PAGES
    for number, snippet in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    )
}


def test_the_pages_have_snippets() -> None:
    assert {"evaluation.md-0", "losses.md-0"} <= SNIPPETS.keys()


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_runs(
    name: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where it may write
    exec(SNIPPETS[name], {})
    if "render_comparison" in SNIPPETS[name]:
        table = capsys.readouterr().out
        assert "video → music (v2m), mine: 80 videos against 50 unique tracks" in table
        assert "near against far" in table
        assert (tmp_path / "embeddings.npz").is_file()
