"""One table in its three forms."""

from vmr import tables
from vmr.tables import Bold

ROWS = [["", "seeds", "R@10"], ["a|b_1", "3", Bold("34.1")], ["x−y", "10", "-2.0 < 5%"]]


def test_text_is_aligned_by_its_columns() -> None:
    assert tables.text(ROWS) == (
        "       seeds       R@10\na|b_1      3      *34.1\nx−y       10  -2.0 < 5%"
    )
    assert tables.text(ROWS, "l").splitlines() == [
        "       seeds  R@10",
        "a|b_1  3      *34.1",
        "x−y    10     -2.0 < 5%",
    ]


def test_markdown_escapes_what_ends_a_cell_or_a_row() -> None:
    assert tables.markdown(ROWS, "lrl").splitlines() == [
        "|  | seeds | R@10 |",
        "|---|---:|---|",
        r"| a\|b_1 | 3 | **34.1** |",
        "| x−y | 10 | -2.0 < 5% |",
    ]
    assert tables.markdown_row(["two\nlines"]) == "| two lines |"


def test_latex_escapes_what_it_would_read_as_a_command() -> None:
    assert tables.latex(ROWS).splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"{} & seeds & R@10 \\",
        r"\midrule",
        r"{}a|b\_1 & 3 & \textbf{34.1} \\",
        r"{}x$-$y & 10 & $-$2.0 $<$ 5\% \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
