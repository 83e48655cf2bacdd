"""One item as a query, and what it is searched in.

The item is a media file or one of features, which a model embeds, or the id of an embedded item. It
is searched in a `Collection`, exactly, or in an `Index`.
"""

import difflib
import os.path
import pathlib
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vmr import embeddings
from vmr.arrays import read_array
from vmr.collection import SIDES, Collection, open_collection
from vmr.errors import UserError
from vmr.evaluation.checks import check_pairs
from vmr.retrieval.index import Index, model_of, open_index, require_one_space
from vmr.retrieval.media_features import account_of, compared, extracted, is_media

if TYPE_CHECKING:  # seconds of imports, that an id does without
    from vmr.runs.ensemble_model import Embedder

_NEAR = 5000  # ids to either side of a missing one in which the nearest spellings are sought


@dataclass(frozen=True)
class Query:
    """One embedded item.

    Attributes:
      item: as it was given: a file or an id.
      side: `video` or `music`.
      embedding: (1, D) unit row.
      own_row: row of the searched collection that is this very item, None if there is none.
      model: fingerprint of the model that embedded it, None if that is not known.
      partners: ids of its true partners; None where the file that it comes from pairs nothing.
      notes: remarks on its features.
    """

    item: str
    side: str
    embedding: np.ndarray
    own_row: int | None = None
    model: str | None = None
    partners: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def one_item(video: str | None, music: str | None) -> tuple[str, str]:
    """Modality and item of the query, of which one must be given."""
    given = [(side, item) for side, item in (("video", video), ("music", music)) if item]
    if len(given) != 1:
        raise UserError(
            "give --video=ITEM to search music, or --music=ITEM to search videos: a media file, a "
            "file x.npy of features, or the id of an embedded item"
        )
    return given[0]


def open_catalogue(path: str, side: str | None) -> Collection:
    """Opens what is to be indexed; refuses to choose between two modalities."""
    if side is None and len(sides_of(pathlib.Path(path))) == len(SIDES):
        raise UserError(f"{path} holds both modalities: give --side=music or --side=video")
    return open_collection(path, side)


def open_searched(
    index: str | None, embedded: str | None, query_side: str, side: str | None = None
) -> Collection | Index:
    """Opens what is searched: an index, or embeddings.

    Args:
      index: folder of `experiments.index`.
      embedded: npz or folder of embeddings.
      query_side: modality of the query; where embeddings hold both, the other is searched.
      side: modality to search instead.

    Raises:
      UserError: none or both are given, or as `open_index` and `open_collection`.
    """
    if bool(index) == bool(embedded):
        raise UserError("give --index=DIR or --embeddings=FILE.npz|FOLDER, one of them")
    if index:
        searched: Collection | Index = open_index(pathlib.Path(index))
        if side not in (None, searched.side):
            raise UserError(f"{index} is an index of {searched.side}, expected {side}")
    else:
        path = pathlib.Path(str(embedded))
        both = len(sides_of(path)) == len(SIDES)
        searched = open_collection(path, side or (other_side(query_side) if both else None))
    if not len(searched):
        raise UserError(f"{searched.path} has no items, expected some to search")
    return searched


def open_queries(
    queries: str | None, searched: Collection | Index, query_side: str
) -> Collection | None:
    """Opens embedded items of the query's modality: of `queries`, else of the npz searched.

    None where neither holds any, or where what is searched is itself of that modality.
    """
    if queries:
        return open_collection(pathlib.Path(queries), query_side)
    if searched.side == query_side or isinstance(searched, Index):
        return None
    there = query_side in sides_of(searched.path)
    return open_collection(searched.path, query_side) if there else None


def load_model(folder: str | None) -> "Embedder | None":
    """The model or the ensemble in a folder, None where none is named."""
    if folder is None:
        return None
    import vmr

    return vmr.load(folder)


def sides_of(path: pathlib.Path) -> list[str]:
    """Modalities that an npz or a folder holds."""
    if path.is_dir():
        return [side for side in SIDES if (path / f"{side}_emb").is_dir()]
    names = embeddings.array_names(path)
    return [side for side in SIDES if f"{side}_emb" in names]


def other_side(side: str) -> str:
    """The other modality."""
    return SIDES[1 - SIDES.index(side)]


def read_query(
    item: str,
    side: str,
    searched: Collection | Index,
    queries: Collection | None,
    model: "Embedder | None",
    text: str | None = None,
    onnx: str | None = None,
) -> Query:
    """Embeds the item, or finds it among what is embedded.

    Args:
      item: name of a media file, or of an npy file, (P,) or (T, P); or an id. The sound of a video
        file is a track too.
      side: its modality.
      searched: what it will be searched in.
      queries: where its id is looked for; None: in what is searched, if that is of its modality.
      model: embeds a file; None where the item is an id.
      text: words that come with the video, or an npy file of their embeddings (E,) or (L, E).
      onnx: file of the model's extractor, if that is an ONNX model.

    Raises:
      UserError: there is no such item, or no model for it; it is of another modality, width or
        model than what is searched; its features are of another extractor than the model's.
    """
    if onnx and not is_media(item):
        raise UserError(f"--onnx={onnx} extracts features of media, and {item!r} is no such file")
    for embedded in (searched, queries):
        if embedded is not None and model is not None:
            _require_model(embedded, model)
    if _is_npy(item) or is_media(item):
        query = _embedded(pathlib.Path(item), side, model, text, onnx)
    elif text is not None:
        raise UserError(f"--text comes with a file, and {item!r} is no npy or media file")
    else:
        query = _looked_up(item, side, searched, queries)
    if query.embedding.shape[1] != searched.width:
        raise UserError(
            f"{item} is embedded in {query.embedding.shape[1]} numbers, and {searched.path} in "
            f"{searched.width}: expected one space"
        )
    return query


def excluded_ids(given: str | None, searched: Collection | Index) -> list[str]:
    """Ids to exclude: a file of one id a line, or ids parted by commas.

    Those of a file may be of a larger catalogue: `answer` counts which are not there.

    Raises:
      UserError: the file cannot be read, or an id on the command line is not there.
    """
    if given is None:
        return []
    if os.path.isfile(given):  # a list of ids may be too long for the name of a file
        try:
            lines = pathlib.Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--exclude={given} cannot be read as UTF-8 text: {error}") from None
        return [line.strip() for line in lines if line.strip()]
    ids = [given] if np.any(searched.ids == given) else given.split(",")
    rows = [_row_of(one, searched.ids) for one in ids]
    for one, row in zip(ids, rows, strict=True):
        if row is None:
            raise UserError(
                f"--exclude: {one!r} is no file and no id of {searched.path}"
                f"{_nearest(one, searched.ids)}"
            )
    return [str(searched.ids[row]) for row in rows if row is not None]


def _require_model(searched: Collection | Index, model: "Embedder") -> None:
    made_by = model_of(searched)
    if made_by is not None and made_by != model.fingerprint:
        raise UserError(
            f"{searched.path} was embedded by model {made_by[:12]}, and {model.folder} is "
            f"{model.fingerprint[:12]}: expected the same model"
        )


def _embedded(
    file: pathlib.Path, side: str, model: "Embedder | None", text: str | None, onnx: str | None
) -> Query:
    if model is None:
        raise UserError(f"{file} is to be embedded: give --model=DIR")
    if is_media(str(file)):
        features, notes = extracted(model, file, side, onnx)
    else:
        features = _read_npy(file)
        remark = compared(model, side, account_of(file), str(file))
        notes = [remark] if remark else []
    embedding = _embedding(file, features, side, model, text)
    return Query(str(file), side, embedding, model=model.fingerprint, notes=tuple(notes))


def _embedding(
    file: pathlib.Path, features: np.ndarray, side: str, model: "Embedder", text: str | None
) -> np.ndarray:
    """Embedding (1, D) of the features of a file."""
    width, others = features.shape[-1], dict(model.widths)
    if width != others.pop(side, width) and width in others.values():
        raise UserError(
            f"{file} has width {width}, which {model.folder} expects of {other_side(side)}; of "
            f"{side} it expects {model.widths[side]}"
        )
    items = features[None] if features.ndim == 1 else [features]
    try:
        if side == "music":
            if text is not None:
                raise UserError("--text comes with --video alone")
            return model.embed_music(items)
        words = None if text is None else [_read_text(text)]
        return model.embed_video(items, words)
    except UserError as mistake:
        raise UserError(f"{file}: {mistake}") from None


def _read_npy(file: pathlib.Path) -> np.ndarray:
    try:
        with file.open("rb") as opened:
            array = read_array(opened, file.stat().st_size)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}") from None
    if array.ndim not in (1, 2) or not array.size or array.dtype.kind not in "fiu":
        raise UserError(
            f"{file} has shape {array.shape} and type {array.dtype}, expected numbers of shape "
            "(P,), or (T, P) for a sequence"
        )
    return array


def _is_npy(item: str) -> bool:
    return item.endswith(".npy") and os.path.isfile(item)


def _read_text(text: str) -> Any:
    if _is_npy(text):
        array = _read_npy(pathlib.Path(text)).astype(np.float32)
        return array[None] if array.ndim == 1 else array
    return text


def _looked_up(
    item: str, side: str, searched: Collection | Index, queries: Collection | None
) -> Query:
    itself = queries is None and searched.side == side
    source = searched if itself else queries
    if source is None:
        known = "" if os.path.exists(item) else " that is there"
        raise UserError(
            f"{item!r} is no npy or media file{known}, and there are no embedded {side} items to "
            "look it up in: give --queries=FILE.npz|FOLDER"
        )
    row = _row_of(item, source.ids)
    if row is None:
        raise UserError(_missing(item, side, source, searched))
    if isinstance(source, Collection) and source is not searched:
        require_one_space(searched, source)
    own = row if itself else None
    if not itself and searched.side == side:  # the same item, if the catalogue holds it too
        own = _row_of(str(source.ids[row]), searched.ids)
    embedding, model = source.rows(np.array([row])), model_of(source)
    partners = None if searched.side == side else _partners(source, row)
    return Query(item, side, embedding, own, model, partners)


def _partners(source: Collection | Index, row: int) -> tuple[str, ...] | None:
    """Ids of the items that an npz pairs with a row; None where it pairs nothing."""
    path, ids, index = source.path, f"{other_side(source.side)}_ids", "gt_music_index"
    if path.is_dir() or not {ids, index} <= set(embeddings.array_names(path)):
        return None
    arrays = embeddings.read_arrays(path, (ids, index), ())
    counts = len(source), arrays[ids].size
    try:
        pairs = check_pairs(arrays[index], *(counts if source.side == "video" else counts[::-1]))
    except UserError as mistake:
        raise UserError(f"{path}: {mistake}") from None
    rows = pairs[[row]] if source.side == "video" else np.flatnonzero(pairs == row)
    return tuple(arrays[ids].reshape(-1)[rows].astype(str).tolist())


def _row_of(item: str, ids: np.ndarray) -> int | None:
    """Row of an id, in whichever Unicode form it was typed; None if it is not there."""
    for form in (item, *(unicodedata.normalize(name, item) for name in ("NFC", "NFD"))):
        rows = np.flatnonzero(ids == form)
        if len(rows):
            return int(rows[0])
    return None


def _missing(item: str, side: str, source: Collection | Index, searched: Collection | Index) -> str:
    line = f"{item!r} is no file and no id of the {side} items in {source.path}"
    if searched.side != side and _row_of(item, searched.ids) is not None:
        return f"{line}; it is one of {searched.side}: give --{searched.side}={item}"
    return line + _nearest(item, source.ids)


def _nearest(item: str, ids: np.ndarray) -> str:
    """The nearest spellings in words; of very many ids, of those that begin alike."""
    if len(ids) > 2 * _NEAR:
        ids = np.sort(ids)
        place = int(np.searchsorted(ids, item))
        ids = ids[max(0, place - _NEAR) : place + _NEAR]
    near = difflib.get_close_matches(item, ids.tolist())
    return f"; nearest: {', '.join(map(repr, near))}" if near else f", such as {str(ids[0])!r}"
