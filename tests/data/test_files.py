"""Tables of pairs, texts and labels: nothing in them is lost without a word."""

import pytest

from vmr.data.sources.files import read_table
from vmr.errors import UserError

COLUMNS = ("video_id", "text")


def read(tmp_path, content, columns=COLUMNS):
    file = tmp_path / "table.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(place.rpartition(": ")[2], *row.values()) for place, row in read_table(file, columns)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("video_id,text\na,x\nb,y\n", [("line 2", "a", "x"), ("line 3", "b", "y")]),
        ("video_id,text\r\na,x\r\nb,y", [("line 2", "a", "x"), ("line 3", "b", "y")]),
        ("\ufeffvideo_id,text\na,x\n", [("line 2", "a", "x")]),
        (" text , video_id ,more\n x , a ,z\n", [("line 2", "a", "x")]),
        ("video_id,text\n\na,x\n\n\n", [("line 3", "a", "x")]),
        ('video_id,text\na,"x, ""y"""\n', [("line 2", "a", 'x, "y"')]),
        ('video_id,text\na,x "y" 5"\n', [("line 2", "a", 'x "y" 5"')]),
        ("video_id,text\na,\n", [("line 2", "a", "")]),
        ("video_id,more,more,text\na,1,2,x\n", [("line 2", "a", "x")]),
    ],
)
def test_what_a_table_may_be(tmp_path, content, expected):
    assert read(tmp_path, content) == expected


QUOTE = "opens a quote that is not closed on that line"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('video_id,text\na,x\nb,"y\nc,z\nd,w\n', f"line 3 {QUOTE}"),  # takes all that follows
        ('video_id,text\na,"x\nb,y"\nc,z\n', f"line 2 {QUOTE}"),  # closed by another row's quote
        ('video_id,text\na,"x\nb,"y"\nc,z\n', f"line 2 {QUOTE}"),
        ('video_id,"text\na,x\n', f"line 1 {QUOTE}"),
        ('video_id,text\na,"x"y\n', "line 2 cannot be read as CSV: ',' expected after"),
        ("video_id,text\na,song 0, with love\n", r"line 2 has 3 values, expected 2 \(video_id,"),
        ("video_id,text\na,x\nb\n", r"line 3 has 1 value, expected 2 \(video_id,text\)$"),
        ("video_id,text\na,x,\n", "line 2 has 3 values"),
        ("video_id,text,text\na,x,y\n", "has column text twice"),
        ("video_id\na\n", "lacks column text; its first line is 'video_id'"),
        ("", "lacks column video_id, text; its first line is ''"),
        (b"video_id,text\na,x\nb,\xff\n", "line 3 is not UTF-8, expected text$"),
        ('video_id,text\na, "x\nb,y"\n', f"line 2 {QUOTE}"),
        (f"video_id,text\na,{'x' * 200_000}\n", "line 2 cannot be read as CSV: field larger"),
    ],
)
def test_what_would_lose_a_value_is_told_by_line(tmp_path, content, expected):
    with pytest.raises(UserError, match=rf"table\.csv: {expected}") as told:
        read(tmp_path, content)
    assert "\n" not in str(told.value)
