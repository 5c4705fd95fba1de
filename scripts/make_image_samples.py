#!/usr/bin/env python3
"""Writes tests/data/images: small pictures of every kind that is read, what PIL makes of them with convert("RGB"), and
sizes after the resize of pictures and videos.

usage: make_image_samples.py [--golden VISION.safetensors FOLDER]

Needs Pillow and numpy; the versions that wrote the files are in expected.json. With --golden it also writes
tests/data/golden/pixel_levels.safetensors: the pixel_values that Transformers recorded, as 8-bit levels of one frame
(both frames are equal, and every value is (level - 127.5) / 127.5 in F32), and copies the pictures.
"""
import hashlib
import io
import json
import math
import os
import shutil
import struct
import sys
import zlib

import numpy as np
import PIL
from PIL import Image, features

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data")
WIDTH, HEIGHT = 45, 35


def picture():
    """Gradients, an edge and some noise: [HEIGHT, WIDTH, 4] of 16 bits."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    noise = np.random.default_rng(1).uniform(-4000, 4000, (HEIGHT, WIDTH))
    red = 65535 * x / (WIDTH - 1) + noise
    green = 65535 * y / (HEIGHT - 1)
    blue = np.where((x - 20) ** 2 + (y - 15) ** 2 < 90, 60000, 9000) + noise
    alpha = 65535 * (x + y) / (WIDTH + HEIGHT - 2)
    return np.clip(np.stack([red, green, blue, alpha], -1), 0, 65535).astype(np.uint16)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed_rows(samples, depth):
    """[rows, columns, channels] as a PNG's rows of filter 0."""
    rows = b""
    for row in samples:
        if depth == 16:
            rows += b"\0" + row.astype(">u2").tobytes()
        elif depth == 8:
            rows += b"\0" + row.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(value), f"0{depth}b") for value in row.reshape(-1))
            bits += "0" * (-len(bits) % 8)
            rows += b"\0" + bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
    return rows


def png(samples, depth, colour, interlaced=False, chunks=b""):
    height, width, _ = samples.shape
    if interlaced:  # Adam7
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        parts = [samples[y::dy, x::dx] for y, x, dy, dx in passes]
        data = b"".join(packed_rows(part, depth) for part in parts if part.size)
    else:
        data = packed_rows(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(data, 9)) +
            chunk(b"IEND", b""))


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_files(deep):
    high = deep >> 8
    grey, rgb, rgba = deep[..., 1:2], deep[..., :3], deep
    palette = np.random.default_rng(2).integers(0, 256, 3 * 256, dtype=np.uint8).tobytes()
    files = {}
    for depth in (1, 2, 4, 8, 16):
        for interlaced in (False, True):
            name = f"grey{depth}" + ("-interlaced" if interlaced else "")
            files[name] = png(grey >> (16 - depth), depth, 0, interlaced)
    files["grey16-dark"] = png(grey >> 7, 16, 0)  # around the level at which PIL clips
    files["grey8-transparent-level"] = png(grey >> 8, 8, 0, chunks=chunk(b"tRNS", b"\0\x40"))
    for depth in (1, 2, 4, 8):
        colours = chunk(b"PLTE", palette[:3 << depth])
        files[f"palette{depth}"] = png(grey >> (16 - depth), depth, 3, depth == 2, colours)
    files["palette8-transparent"] = png(grey >> 8, 8, 3, False, chunk(b"PLTE", palette) + chunk(b"tRNS", bytes(range(100))))
    files["palette8-short"] = png(grey >> 8, 8, 3, False, chunk(b"PLTE", palette[:3 * 100]))
    for depth, samples in ((8, high), (16, deep)):
        files[f"grey-alpha{depth}"] = png(samples[..., 1::2], depth, 4)
        files[f"rgb{depth}"] = png(samples[..., :3], depth, 2)
        files[f"rgb{depth}-interlaced"] = png(samples[..., :3], depth, 2, True)
        files[f"rgba{depth}"] = png(samples, depth, 6)
        files[f"rgba{depth}-interlaced"] = png(samples, depth, 6, True)
    noise = b"".join(chunk(kind, data) for kind, data in (
        (b"gAMA", struct.pack(">I", 100000)), (b"sBIT", b"\5\6\5"), (b"tEXt", b"Comment\0ignored"), (b"pHYs", bytes(9))))
    files["rgb8-ancillary"] = png(high[..., :3], 8, 2, False, noise)
    exif = Image.Exif()
    exif[0x112] = 6
    files["rgb8-orientation"] = saved(Image.fromarray(high[..., :3].astype(np.uint8)), "PNG", exif=exif)
    return {name + ".png": data for name, data in files.items()}


def jpeg_files(deep):
    levels = (deep >> 8).astype(np.uint8)
    grey, rgb = Image.fromarray(levels[..., 1]), Image.fromarray(levels[..., :3])
    cmyk = Image.frombytes("CMYK", (WIDTH, HEIGHT), levels.tobytes())
    exif = Image.Exif()
    exif[0x112] = 6
    files = {}
    for progressive in (False, True):
        end = "-progressive" if progressive else ""
        files["grey" + end] = saved(grey, "JPEG", progressive=progressive, quality=90)
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            files["ycc" + subsampling.replace(":", "") + end] = saved(rgb, "JPEG", progressive=progressive, quality=85,
                                                                      subsampling=subsampling)
        files["cmyk" + end] = saved(cmyk, "JPEG", progressive=progressive, quality=90)
    ycck = bytearray(files["cmyk"])
    ycck[ycck.index(b"Adobe") + 11] = 2  # the same coefficients, read as YCCK
    files["ycck"] = bytes(ycck)
    files["rgb"] = saved(rgb, "JPEG", quality=90, keep_rgb=True)
    files["low-quality"] = saved(rgb, "JPEG", quality=5)
    files["orientation"] = saved(rgb, "JPEG", exif=exif)
    files["restart"] = saved(rgb, "JPEG", restart_marker_blocks=3)
    files["trailing"] = files["ycc420"] + b"bytes behind the picture"
    return {name + ".jpg": data for name, data in files.items()}


def webp_files(deep):
    levels = (deep >> 8).astype(np.uint8)
    rgb, rgba = Image.fromarray(levels[..., :3]), Image.fromarray(levels)
    exif = Image.Exif()
    exif[0x112] = 6
    patch = Image.new("RGBA", (WIDTH, HEIGHT))
    files = {
        "lossy": saved(rgb, "WEBP", quality=70),
        "lossless": saved(rgb, "WEBP", lossless=True),
        "lossy-alpha": saved(rgba, "WEBP", quality=70),
        "lossless-alpha": saved(rgba, "WEBP", lossless=True, exact=True),
        "orientation": saved(rgb, "WEBP", quality=50, exif=exif),
        "animated": saved(rgba, "WEBP", save_all=True, append_images=[patch, rgb], duration=10, lossless=True),
    }
    # The first frame alone on a larger canvas: the frame's place in the container is the only thing that changes.
    moved = bytearray(files["animated"])
    canvas, frame = moved.index(b"VP8X") + 12, moved.index(b"ANMF") + 8
    moved[canvas:canvas + 3] = struct.pack("<I", WIDTH + 9)[:3]
    moved[canvas + 3:canvas + 6] = struct.pack("<I", HEIGHT + 7)[:3]
    moved[frame:frame + 3] = struct.pack("<I", 3)[:3]
    moved[frame + 3:frame + 6] = struct.pack("<I", 2)[:3]
    files["animated-offset"] = bytes(moved)
    return {name + ".webp": data for name, data in files.items()}


def write_samples():
    folder = os.path.join(DATA, "images")
    os.makedirs(folder, exist_ok=True)
    deep = picture()
    expected = {}
    for name, data in {**png_files(deep), **jpeg_files(deep), **webp_files(deep)}.items():
        image = Image.open(io.BytesIO(data))
        mode, rgb = image.mode, image.convert("RGB")
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
        expected[name] = {"size": list(rgb.size), "mode": mode, "sha256": hashlib.sha256(rgb.tobytes()).hexdigest()}
    versions = {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo"),
                "webp": features.version("webp"), "zlib": features.version("zlib")}
    with open(os.path.join(folder, "expected.json"), "w") as file:
        json.dump({"versions": versions, "files": expected}, file, indent=1)
        file.write("\n")


def fit(pixels, rows, columns, height, width, frames, factor, least, most):
    """The tail of the reference's two functions smart_resize."""
    if pixels > most:
        beta = math.sqrt(frames * height * width / most)
        rows, columns = (max(factor, math.floor(side / beta / factor) * factor) for side in (height, width))
    elif pixels < least:
        beta = math.sqrt(least / (frames * height * width))
        rows, columns = (math.ceil(side * beta / factor) * factor for side in (height, width))
    return [rows, columns]


def image_size(height, width, factor, least, most):
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    return fit(rows * columns, rows, columns, height, width, 1, factor, least, most)


def frame_size(frames, height, width, factor, least, most):
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    return fit(round(frames / 2) * 2 * rows * columns, rows, columns, height, width, frames, factor, least, most)


def write_sizes():
    """What Python's arithmetic gives: sizes after the resize, and the frames of videos that are looked at."""
    random = np.random.default_rng(3)
    limits = [(65536, 16777216), (4096, 65536), (3136, 1003520)]
    images, videos, samples = [], [], []
    while len(images) < 300:
        height, width = (int(2 ** random.uniform(0, 13.5)) for _ in range(2))
        if len(images) % 3 == 0:  # ties of the rounding
            height, width = (max(16, side // 16 * 16) for side in (height, width))
        if max(height, width) / min(height, width) <= 200:
            factor, (least, most) = (28, 32)[len(images) % 2], limits[len(images) % len(limits)]
            images.append([factor, least, most, width, height, *image_size(height, width, factor, least, most)[::-1]])
    while len(videos) < 100:
        frames, height, width = (int(2 ** random.uniform(low, high)) for low, high in ((1, 9.5), (3, 11), (3, 11)))
        if max(height, width) / min(height, width) <= 200:
            least, most = ((4096, 25165824), (131072, 786432))[len(videos) % 2]
            videos.append([32, least, most, frames, width, height, *frame_size(frames, height, width, 32, least, most)[::-1]])
    for total in (2, 3, 4, 5, 7, 10, 24, 31, 100, 299, 5000, 50000):
        for rate in (1, 2, 24, 23.976, 29.97, 60):
            count = min(max(int(total / rate * 2), 4), 768, total)
            frames = np.linspace(0, total - 1, count).round().astype(int).tolist()
            samples.append({"total": total, "rate": rate, "count": count, "sum": sum(frames), "first": frames[:12]})
    with open(os.path.join(DATA, "images", "sizes.json"), "w") as file:
        json.dump({"images": images, "videos": videos, "samples": samples}, file, separators=(",", ":"))
        file.write("\n")


def write_golden(path, images):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    names, parts, entries, at = sorted(os.listdir(images)), [], {}, 0
    os.makedirs(os.path.join(DATA, "golden", "images"), exist_ok=True)

    def add(name, kind, array):
        nonlocal at
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        parts.append(array.tobytes())
        at += array.nbytes

    def read(name, kind):
        begin, end = header[name]["data_offsets"]
        return np.frombuffer(data[begin:end], kind).reshape(header[name]["shape"])

    for name in names:
        kind = {"I64": np.int64, "I32": np.int32}[header[f"{name}.grid_thw"]["dtype"]]
        add(f"{name}.grid_thw", "I32", read(f"{name}.grid_thw", kind).reshape(3).astype(np.int32))
    for name in names:
        values = read(f"{name}.pixel_values", np.float32).reshape(-1, 3, 2, 256)
        level = np.rint(values * 127.5 + 127.5).astype(np.uint8)
        again = (level.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
        assert np.array_equal(again, values) and np.array_equal(level[:, :, 0], level[:, :, 1])
        add(f"{name}.levels", "U8", np.ascontiguousarray(level[:, :, 0]))
        shutil.copyfile(os.path.join(images, name), os.path.join(DATA, "golden", "images", name))
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(DATA, "golden", "pixel_levels.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


if __name__ == "__main__":
    write_samples()
    write_sizes()
    if sys.argv[1:2] == ["--golden"]:
        write_golden(*sys.argv[2:4])
