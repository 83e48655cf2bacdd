"""The README's Python runs as it stands there."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 2


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.split("\n")[0])
def test_a_snippet_runs(
    snippet: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where it may write
    exec(snippet, {})
    if "render_comparison" in snippet:
        told = capsys.readouterr().out
        assert "video → music (v2m), mine: 80 videos against 50 unique tracks" in told
        assert "near against far" in told
        assert (tmp_path / "embeddings.npz").is_file()
