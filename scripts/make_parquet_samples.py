#!/usr/bin/env python3
"""Writes tests/data/parquet/ and tests/data/dataset/: small files in the forms that the readers must know.

Only needed to write them anew; pyarrow (any recent version) is the oracle, the tests need neither Python nor pyarrow.
    pip install pyarrow && python3 scripts/make_parquet_samples.py
"""
import csv
import io
import json
import pathlib
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
ROWS = 300


def text_of(row):
    if row % 7 == 3:
        return None
    if row % 11 == 5:
        return ""
    return f"row {row}: " + "żółw 🐢 \"quoted\", " * (row % 5) + "\n" * (row % 2)


def messages_of(row):
    if row % 13 == 4:
        return None
    turns = [{"role": "user", "content": f"question {row}"}, {"role": "assistant", "content": f"answer {row}\n"}]
    turns = turns * (row % 3)  # also empty lists
    if row % 17 == 6 and turns:
        turns = turns + [{"role": "user", "content": None}]
    return turns


def sample_table():
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "text": pa.array([text_of(i) for i in range(ROWS)], pa.string()),
            "flag": pa.array([i % 3 == 0 for i in range(ROWS)], pa.bool_()),
            "tag": pa.array(["ABC"[i * i % 3] * (1 + i % 4) for i in range(ROWS)], pa.string()),
            "score": pa.array([i / 7 for i in range(ROWS)], pa.float64()),
            "messages": pa.array([messages_of(i) for i in range(ROWS)], pa.list_(message)),
        },
        schema=pa.schema(
            [
                ("id", pa.int64()),
                ("text", pa.string()),
                ("flag", pa.bool_()),
                pa.field("tag", pa.string(), nullable=False),
                ("score", pa.float64()),
                ("messages", pa.list_(message)),
            ]
        ),
    )


def write_parquet_samples(folder):
    folder.mkdir(parents=True, exist_ok=True)
    table = sample_table()
    paging = {"row_group_size": 128, "data_page_size": 700, "write_batch_size": 16}
    for codec in ("none", "snappy", "zstd"):
        for version in ("1.0", "2.0"):
            for dictionary in (False, True):
                name = f"{codec}-v{version[0]}-{'dictionary' if dictionary else 'plain'}.parquet"
                pq.write_table(table, folder / name, compression=codec, data_page_version=version,
                               use_dictionary=dictionary, **paging)
    pq.write_table(table, folder / "format-1.0.parquet", version="1.0", compression="snappy")  # PLAIN_DICTIONARY
    few = table.slice(0, 20)
    pq.write_table(few, folder / "gzip.parquet", compression="gzip")
    pq.write_table(few, folder / "delta.parquet", use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})
    write_codec_samples(table, few, folder)
    nested = pa.table({"text": pa.array([[["a"], []], None], pa.list_(pa.list_(pa.string())))})
    pq.write_table(nested, folder / "nested.parquet")
    pq.write_table(table.slice(0, 0), folder / "empty.parquet")
    expected = {name: table.column(name).to_pylist() for name in ("text", "tag", "messages")}
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False))


def write_codec_samples(table, few, folder):
    """Every compression that pyarrow writes beside those above, delta encodings in both versions of pages, checksums."""
    for codec, name in (("brotli", "brotli"), ("lz4", "lz4_raw")):
        pq.write_table(few, folder / f"{name}.parquet", compression=codec, write_page_checksum=True)
    encodings = {"text": "DELTA_BYTE_ARRAY", "tag": "DELTA_LENGTH_BYTE_ARRAY",
                 "messages.list.element.role": "DELTA_BYTE_ARRAY",
                 "messages.list.element.content": "DELTA_LENGTH_BYTE_ARRAY"}
    for version in ("1.0", "2.0"):
        pq.write_table(table, folder / f"deltas-v{version[0]}.parquet", compression="zstd", compression_level=19,
                       data_page_version=version, use_dictionary=False, column_encoding=encodings,
                       write_page_checksum=True, row_group_size=128, data_page_size=700, write_batch_size=16)


def write_dataset_samples(folder):
    """The same rows in four formats."""
    folder.mkdir(parents=True, exist_ok=True)
    calibration = subprocess.run(["zstd", "-dcq", DATA / "calibration.jsonl.zst"], check=True, capture_output=True).stdout
    rows = [json.loads(line) for line in calibration.decode().splitlines()[:12]]
    rows = [{key: row[key] for key in ("instruction", "input", "output")} for row in rows]
    rows.insert(3, {"instruction": "Quote \"this\", please.", "input": "a,b\nc\r\n\"d\"", "output": "naïve 🐢\tend "})
    rows.insert(5, {"instruction": "Say nothing.", "input": "", "output": ""})
    lines = "".join(json.dumps(row, ensure_ascii=index % 2 == 0) + "\n" for index, row in enumerate(rows))
    (folder / "rows.jsonl").write_text(lines)
    # Two frames, as after "cat a.zst b.zst".
    half = lines.index("\n", len(lines) // 2) - 5
    frames = [subprocess.run(["zstd", "-19", "-q"], input=part.encode(), check=True, capture_output=True).stdout
              for part in (lines[:half], lines[half:])]
    (folder / "rows.jsonl.zst").write_bytes(b"".join(frames))
    (folder / "rows.json").write_text(json.dumps({"version": 1, "data": rows}, indent=1))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["output", "instruction", "input"])
    writer.writeheader()
    writer.writerows(rows)
    (folder / "rows.csv").write_bytes(out.getvalue().encode())
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet", row_group_size=5)


def write_picture_samples(folder):
    """Pictures as the hub stores them: {bytes, path} alone, and in lists."""
    names = ["circle64.png", "wide.png", "square64.png"]
    pictures = [{"bytes": (DATA / "golden" / "images" / name).read_bytes(), "path": name} for name in names]
    turns = [[{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A circle."}],
             [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A square."}],
             [{"from": "human", "value": "Hello."}, {"from": "gpt", "value": "Good day."}]]
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array([pictures[0], pictures[1], None], picture), "conversations": turns}),
                   folder / "image.parquet")
    texts = [[{"user": "Compare.", "assistant": "Two.", "source": "a"}, {"user": "So?", "assistant": "Yes.", "source": "a"}],
             [{"user": "One?", "assistant": "One.", "source": "a"}]]
    # A path beside the file in place of the bytes.
    beside = {"bytes": None, "path": "../golden/images/square64.png"}
    pq.write_table(pa.table({"images": pa.array([pictures[:2], [beside]], pa.list_(picture)), "texts": texts}),
                   folder / "images.parquet")


if __name__ == "__main__":
    write_parquet_samples(DATA / "parquet")
    write_dataset_samples(DATA / "dataset")
    write_picture_samples(DATA / "dataset")
