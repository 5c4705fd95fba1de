#!/usr/bin/env python3
"""Writes tests/data/arrow/: the same rows in every form of Arrow's IPC that the reader must know, and a saved data set.

Only needed to write them anew; pyarrow is the oracle, `datasets` writes the folder `saved`. The tests need neither.
    pip install pyarrow datasets && python3 scripts/make_arrow_samples.py
"""
import json
import pathlib
import shutil

import pyarrow as pa

from make_parquet_samples import messages_of, text_of

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "arrow"
ROWS = 40
BATCH = 16


def table_of(text, list_of, size_of_tag=pa.int32()):
    message = pa.struct([("role", text), ("content", text), ("n", pa.list_(pa.int64()))])
    messages = [None if turns is None else [turn | {"n": [1] * (row % 3)} for turn in turns]
                for row, turns in enumerate(map(messages_of, range(ROWS)))]
    return pa.table({
        "id": pa.array(range(ROWS), pa.int64()),
        "none": pa.nulls(ROWS),
        "text": pa.array(map(text_of, range(ROWS)), text),
        "flag": pa.array([i % 3 == 0 for i in range(ROWS)], pa.bool_()),
        "kind": pa.UnionArray.from_dense(pa.array([0] * ROWS, pa.int8()), pa.array(range(ROWS), pa.int32()),
                                         [pa.array(range(ROWS))]),
        "tag": pa.array(["ABC"[i * i % 3] * (1 + i % 4) for i in range(ROWS)]).dictionary_encode().cast(
            pa.dictionary(size_of_tag, pa.string())),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([ROWS], pa.int32()), pa.array(["r"])),
        "messages": pa.array(messages, list_of(message)),
    })


def write_stream(name, table, **options):
    with pa.OSFile(str(FOLDER / name), "wb") as out:
        with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            writer.write_table(table, max_chunksize=BATCH)


def write_file(name, table, **options):
    with pa.OSFile(str(FOLDER / name), "wb") as out:
        with pa.ipc.new_file(out, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            writer.write_table(table, max_chunksize=BATCH)


def write_dictionaries():
    """A dictionary that is continued, and one that is replaced."""
    def batch(values, indices):
        column = pa.DictionaryArray.from_arrays(pa.array(indices, pa.uint8()), pa.array(values))
        return pa.record_batch({"text": column})

    batches = [batch(["a", "b"], [0, 1, None]), batch(["a", "b", "c"], [2, 0]), batch(["x"], [0])]
    for name, deltas in (("deltas.arrow", True), ("replaced.arrow", False)):
        with pa.OSFile(str(FOLDER / name), "wb") as out:
            options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
            with pa.ipc.new_stream(out, batches[0].schema, options=options) as writer:
                for rows in batches:
                    writer.write_batch(rows)


def write_saved():
    """What save_to_disk() writes, in two shards; and beside it the result of a map(), as `datasets` keeps it."""
    import datasets
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(6)],
                                       "messages": [[{"role": "user", "content": f"q{i}"}] for i in range(6)]})
    folder = FOLDER / "saved"
    datasets.DatasetDict({"train": data}).save_to_disk(str(folder), num_shards={"train": 2})
    cache = data.map(lambda row: {"text": "mapped " + row["text"]})
    with pa.OSFile(str(folder / "train" / "cache-0123456789abcdef.arrow"), "wb") as out:
        with pa.ipc.new_stream(out, cache.data.table.schema) as writer:
            writer.write_table(cache.data.table)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    table = table_of(pa.string(), pa.list_)
    write_stream("stream.arrow", table)
    write_stream("old.arrow", table.drop_columns(["none", "kind", "runs"]), use_legacy_format=True,
                 metadata_version=pa.ipc.MetadataVersion.V4)
    write_file("file.arrow", table)
    write_file("lz4.arrow", table, compression="lz4")
    write_stream("zstd.arrow", table, compression="zstd")
    write_stream("large.arrow", table_of(pa.large_string(), pa.large_list, pa.int64()))
    write_stream("views.arrow", table_of(pa.string_view(), pa.list_view, pa.uint8()))
    write_stream("binary.arrow", table_of(pa.binary(), pa.large_list_view, pa.int8()), compression="lz4")
    pairs = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]), 2)
    turns = [None if i == 1 else [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]
             for i in range(3)]
    write_stream("pairs.arrow", pa.table({"messages": pa.array(turns, pairs)}))
    columns = pa.struct([("role", pa.list_(pa.string())), ("content", pa.list_(pa.string()))])
    write_stream("columns.arrow", pa.table({"messages": pa.array(
        [{"role": ["user", "assistant"], "content": [f"q{i}", f"a{i}"]} for i in range(2)], columns)}))
    part = pa.struct([("type", pa.string()), ("text", pa.string()), ("image", pa.binary())])
    parts = [{"type": "image", "text": None, "image": b"x"}, {"type": "text", "text": "q", "image": None}]
    write_stream("parts.arrow", pa.table({"messages": pa.array(
        [[{"role": "user", "content": parts}, {"role": "assistant", "content": []}]],
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(part))])))}))
    write_dictionaries()
    write_saved()
    expected = {"text": table.column("text").to_pylist(), "tag": table.column("tag").to_pylist(),
                "messages": table.column("messages").to_pylist()}
    (FOLDER / "expected.json").write_text(json.dumps(expected, ensure_ascii=False))


if __name__ == "__main__":
    main()
