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
    rows = [[["a"], []], None, [], [None, [None, "b"], [], ["c"]], [None]]
    nested = pa.list_(pa.list_(pa.string()))
    pq.write_table(pa.table({"text": pa.array(rows, nested)}), folder / "nested.parquet")
    pq.write_table(pa.table({"text": pa.array([[[["a"]]]], pa.list_(nested))}), folder / "deep.parquet")
    pq.write_table(table.slice(0, 0), folder / "empty.parquet")
    write_chat_samples(folder)
    write_old_writer_sample(few, folder / "old-writer.parquet")
    expected = {name: table.column(name).to_pylist() for name in ("text", "tag", "messages")}
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False))


def write_chat_samples(folder):
    """Chats as a structure of lists; with a field of the same name deeper in a message; in lists of fixed size."""
    columns = pa.struct([("from", pa.list_(pa.string())), ("value", pa.list_(pa.string()))])
    turns = [{"from": ["human", "gpt"], "value": [f"q{i}", f"a{i}"]} for i in range(2)]
    pq.write_table(pa.table({"conversations": pa.array(turns, columns)}), folder / "chat-columns.parquet")
    source = pa.struct([("content", pa.string()), ("role", pa.string())])
    message = pa.struct([("source", source), ("role", pa.string()), ("content", pa.string()), ("extra", source)])
    other = {"content": "no", "role": "no"}
    chats = [[{"source": other, "role": role, "content": f"{role[0].replace('u', 'q')}{i}", "extra": other}
              for role in ("user", "assistant")] for i in range(2)]
    for name, kind in (("chat-deeper", pa.list_(message)), ("chat-fixed", pa.list_(message, 2))):
        pq.write_table(pa.table({"messages": pa.array(chats, kind)}), folder / f"{name}.parquet")


def nested_chats(picture):
    """Messages whose content is in parts, with calls of tools and reasoning: structures full of nulls, as they are stored."""
    part = pa.struct([("type", pa.string()), ("text", pa.string()), ("image", picture)])
    call = pa.struct([("id", pa.string()), ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())]))])
    message = pa.struct([("role", pa.string()), ("content", pa.list_(part)), ("reasoning_content", pa.string()),
                         ("tool_calls", pa.list_(call))])
    image = {"bytes": (DATA / "golden" / "images" / "circle64.png").read_bytes(), "path": None}
    chats = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "What?"}]},
         {"role": "assistant", "content": [{"type": "text", "text": "A "}, {"type": "text", "text": "circle."}],
          "reasoning_content": "round"}],
        [{"role": "user", "content": [{"type": "text", "text": "Hot?"}]},
         {"role": "assistant", "content": None,
          "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": "{}"}},
                         {"id": "2", "function": {"name": "ask", "arguments": None}}]},
         {"role": "tool", "content": [{"type": "text", "text": "21"}]}],
        None,
    ]
    return pa.table({"messages": pa.array(chats, pa.list_(message))})


def write_nested_chats(folder):
    """The same rows as Parquet, with one row in a group too, and as Arrow; and forms that no reader of ours takes."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = nested_chats(picture)
    pq.write_table(table, folder / "parts.parquet", use_compliant_nested_type=False)
    pq.write_table(table, folder / "parts-groups.parquet", row_group_size=1, data_page_version="2.0")
    with pa.ipc.new_stream(str(folder / "parts.arrow"), table.schema) as writer:
        writer.write_table(table)
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    pairs = [[[{"role": "user", "content": "a"}]]]
    pq.write_table(pa.table({"messages": pa.array(pairs, pa.list_(pa.list_(message)))}), folder / "chat-lists.parquet")
    call = pa.struct([("name", pa.string()), ("count", pa.int64())])
    calls = pa.struct([("role", pa.string()), ("content", pa.string()), ("tool_calls", pa.list_(call))])
    rows = [[{"role": "user", "content": "a", "tool_calls": [{"name": "f", "count": 1}]}]]
    pq.write_table(pa.table({"messages": pa.array(rows, pa.list_(calls))}), folder / "chat-numbers.parquet")
    deep = pa.list_(pa.list_(pa.list_(pa.binary())))
    pq.write_table(pa.table({"text": ["a"], "images": pa.array([[[[b"x"]]]], deep)}), folder / "images-deep.parquet")


def write_old_writer_sample(table, path):
    """As parquet-mr before 1.2.9 wrote: the size of a chunk lacks the header of its dictionary's page. pyarrow reads it."""
    pq.write_table(table, path, compression="none", use_dictionary=["tag"])
    content = bytearray(path.read_bytes())
    begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    metadata = pq.read_metadata(path)
    name = metadata.created_by.encode()
    at = content.index(name, begin)
    content[at:at + len(name)] = b"parquet-mr version 1.2.8 (build x)"[:len(name)].ljust(len(name))

    def varint(value):
        value *= 2  # zigzag
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes(out + bytearray([value]))

    column = next(metadata.row_group(0).column(i) for i in range(metadata.num_columns)
                  if metadata.row_group(0).column(i).path_in_schema == "tag")
    size = column.total_compressed_size
    between = b"\x16"  # the next field, an integer
    assert column.total_uncompressed_size == size and len(varint(size)) == len(varint(size - 12))
    second = content.index(varint(size) + between + varint(size), begin) + len(varint(size) + between)
    content[second:second + len(varint(size))] = varint(size - 12)
    path.write_bytes(content)
    assert pq.read_table(path).equals(table)


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
    write_nested_chats(DATA / "dataset")
